// Writes the log. The lines of one turn of the event loop go out together at its end, no later: a line that waits in memory is lost in the
// crash that it would explain. The last lines go out when the process exits, also by an error that nobody caught.
//
// Lines that can't be written (a full disk, a reader that has gone) are dropped and counted: the log must never hold up a leave.
import { writeSync } from 'node:fs';
import { standStill } from '../clock.ts';

export interface StdoutDeps {
  readonly onLost: (lines: number) => void;
  /** Returns how many bytes were taken; throws if none can be. */
  readonly write: (bytes: Buffer, from: number) => number;
}

/** A slow reader of a pipe is waited for up to a tenth of a second; if it has read nothing by then, not again until it does. */
const WAIT_MS = 10;
const MOST_WAITS = 10;
const LINE_END = 0x0a;

export function createStdout({ onLost, write }: StdoutDeps): (line: string) => void {
  let lines = '';
  let waits = MOST_WAITS;
  /** Only a part of the last line was written: the next one has to begin on a line of its own. */
  let torn = false;

  /** Writes as much as is taken. @returns how many of the bytes. */
  function written(bytes: Buffer): number {
    let at = 0;
    while (at < bytes.length) {
      try {
        at += write(bytes, at);
        waits = MOST_WAITS;
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EAGAIN' || waits === 0) return at;
        waits -= 1;
        standStill(WAIT_MS);
      }
    }
    return at;
  }

  function flush(): void {
    if (lines === '') return;
    const bytes = Buffer.from(torn ? `\n${lines}` : lines);
    lines = '';
    const at = written(bytes);
    if (at < bytes.length) onLost(linesIn(bytes.subarray(torn ? Math.max(at, 1) : at)));
    if (at > 0) torn = bytes[at - 1] !== LINE_END;
  }

  process.once('exit', flush);
  return (line) => {
    if (lines === '') setImmediate(flush);
    lines += line;
  };
}

function linesIn(bytes: Buffer): number {
  return bytes.reduce((count, byte) => (byte === LINE_END ? count + 1 : count), 0);
}

/**
 * Writes to a full pipe, socket or terminal fail (EAGAIN) once Node has made a stream of it; else they stand still until somebody reads, and
 * the whole process with them. Nothing goes by way of the stream, which would keep in memory what nobody reads.
 */
export function writerTo({ fd }: { readonly fd: number }): StdoutDeps['write'] {
  return (bytes, from) => writeSync(fd, bytes, from);
}
