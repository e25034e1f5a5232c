// Lines of the log reach stdout whole, or are counted as lost.
import { beforeEach, expect, test } from 'vitest';
import { createStdout } from '../../src/process/stdout.ts';

let written: string;
let lost: number;
/** What the next writes do: take so many bytes, or fail so. Afterwards all is taken. */
let next: (number | string)[];
let line: (text: string) => void;
beforeEach(() => {
  [written, lost, next] = ['', 0, []];
  const write = (bytes: Buffer, from: number): number => {
    const does = next.shift() ?? bytes.length;
    if (typeof does === 'string') throw Object.assign(new Error(does), { code: does });
    const part = bytes.subarray(from, from + does);
    written += part.toString();
    return part.length;
  };
  line = createStdout({ onLost: (lines) => (lost += lines), write });
});

const turn = () => new Promise((done) => void setImmediate(done));

test('those of one turn go out together, at its end', async () => {
  line('a\n');
  line('b\n');
  expect(written).toBe('');
  await turn();
  expect([written, next, lost]).toEqual(['a\nb\n', [], 0]);
});

test('what is taken in parts is written to its end', async () => {
  next = [1, 2, 1];
  line('ab\ncd\n');
  await turn();
  expect([written, lost]).toEqual(['ab\ncd\n', 0]);
});

test.each(['ENOSPC', 'EPIPE', 'EIO'])('what can not be written (%s) is lost, and later lines are not', async (code) => {
  next = [code];
  line('a\n');
  line('b\n');
  await turn();
  expect([written, lost]).toEqual(['', 2]);
  line('c\n');
  await turn();
  expect([written, lost]).toEqual(['c\n', 2]);
});

test('a line that is cut off by a full disk counts as lost, and spoils no other', async () => {
  next = [4, 'ENOSPC', 'ENOSPC'];
  line('ab\ncd\n');
  await turn();
  expect([written, lost]).toEqual(['ab\nc', 1]);
  line('ef\n');
  await turn();
  expect([written, lost]).toEqual(['ab\nc', 2]);
  line('gh\n');
  await turn();
  expect([written, lost]).toEqual(['ab\nc\ngh\n', 2]);
});

test('a reader that is slow is waited for a little, and not again before it has read', async () => {
  next = ['EAGAIN', 1, 'EAGAIN'];
  line('ab\n');
  await turn();
  expect([written, lost]).toEqual(['ab\n', 0]);
  next = Array(11).fill('EAGAIN');
  line('cd\n');
  await turn();
  expect([written, lost, next]).toEqual(['ab\n', 1, []]);
  next = ['EAGAIN'];
  line('ef\n');
  await turn();
  expect([lost, next]).toEqual([2, []]);
});
