// Whether the files that are open are still those that another start will find: whoever moves or deletes the folder under us leaves us
// writing into files that nobody can find any more, and everything seems well until the next start knows nothing.
import { statSync } from 'node:fs';

export class Place {
  readonly #files: readonly { readonly path: string; readonly inode: string }[];

  /** The files are there, and open. */
  constructor(paths: readonly string[]) {
    this.#files = paths.map((path) => ({ path, inode: inodeOf(path) }));
  }

  /** @throws Error naming the file that is another one now, or none. */
  check(): void {
    for (const { path, inode } of this.#files) {
      if (inodeOf(path) !== inode)
        throw new Error(`${path} was moved, deleted or replaced under us: bring it back; if it is gone for good, start lastwill anew`);
    }
  }
}

function inodeOf(path: string): string {
  const found = statSync(path, { throwIfNoEntry: false });
  return found === undefined ? 'none' : `${found.dev} ${found.ino}`;
}
