// The names in /etc/hosts. They are left to the system's resolver, which answers them from the file without any name server.
import { readFileSync, statSync } from 'node:fs';

const PATH = '/etc/hosts';

/** Tells whether a host (lower case) is in the file as it is now: it is read again when it has changed. */
export function hostsFile(path: string = PATH): (host: string) => boolean {
  let names: ReadonlySet<string> = new Set();
  let readOfMs: number | null = null;
  return (host) => {
    const changedMs = statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? null;
    if (changedMs !== readOfMs) {
      names = changedMs === null ? new Set() : namesIn(path);
      readOfMs = changedMs;
    }
    return names.has(host);
  };
}

function namesIn(path: string): ReadonlySet<string> {
  try {
    const lines = readFileSync(path, 'utf8').toLowerCase().split('\n');
    return new Set(lines.flatMap((line) => line.replace(/#.*/, '').trim().split(/\s+/).slice(1)));
  } catch {
    return new Set();
  }
}
