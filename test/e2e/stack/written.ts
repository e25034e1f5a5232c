// Documentation that commands write: what stands between two markers of a file is theirs.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { repositoryDir } from './processes.ts';

/** Replaces what is between `<!-- name -->` and `<!-- /name -->` of a file of the repository. */
export function writeBetween(file: string, name: string, lines: readonly string[]): void {
  const path = join(repositoryDir, file);
  const text = readFileSync(path, 'utf8');
  const markers = new RegExp(`(<!-- ${name} -->\\n)[\\s\\S]*?(<!-- /${name} -->)`);
  if (!markers.test(text)) throw new Error(`${file} has no <!-- ${name} --> … <!-- /${name} -->`);
  writeFileSync(
    path,
    text.replace(markers, (_, from: string, to: string) => `${from}${lines.join('\n')}\n${to}`),
  );
}
