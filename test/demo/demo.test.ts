// `npm run demo` tells its story to the end, in time, and leaves nothing behind.
import { spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { systemClock } from '../../src/clock.ts';

const LONGEST_MS = 30_000;

test('the demo comes true', { timeout: LONGEST_MS + 10_000 }, async () => {
  const folder = mkdtempSync(join(tmpdir(), 'lastwill-demo-test-'));
  const clock = systemClock();
  const startedMs = clock.nowMs();
  const child = spawn(process.execPath, [join(import.meta.dirname, 'demo.ts')], {
    env: { PATH: process.env.PATH ?? '', TMPDIR: folder },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let story = '';
  child.stdout.on('data', (chunk: Buffer) => {
    story += chunk;
  });
  const code = await new Promise<number | null>((resolve) => void child.once('close', resolve));
  const left = readdirSync(folder);
  rmSync(folder, { recursive: true, force: true });

  expect(code, story).toBe(0);
  expect(clock.nowMs() - startedMs).toBeLessThan(LONGEST_MS);
  const lines = [
    /Alice +hands the delayed leave over/,
    /lastwill +restarts it again/,
    /has not sent the leave, (8\.[89]|9\.\d) s after/,
    /Alice +CRASHES/,
    /webhook participant_left \(CONNECTION_TIMEOUT\)/,
    /LEAVE SENT: Alice is out of the room, 1\d\d\d ms after the webhook/,
    /webhook participant_left \(CLIENT_INITIATED\)/,
    /NO LEAVE: Bob came back/,
    /LEAVE SENT: Bob is out of the room/,
    /All of it came true/,
  ];
  expect(
    lines.filter((line) => !line.test(story)),
    story,
  ).toEqual([]);
  expect(left, 'its folder is gone').toEqual([]);
});
