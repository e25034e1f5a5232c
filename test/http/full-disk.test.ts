// The service on a disk that is full: no promise is made, everybody is told, and it is well again with room.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { room } from '../support/fixtures.ts';
import { createHarness, handOverBody, participantEvent, SECRETS, seen } from './harness.ts';

let folder: string;
let mounted: boolean;
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'lastwill-full-'));
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', folder], { stdio: 'ignore' });
    mounted = true;
  } catch {
    mounted = false;
  }
});
afterEach(() => {
  if (mounted) execFileSync('umount', ['--lazy', folder]);
  rmSync(folder, { recursive: true, force: true });
});

test('503 to all who want a promise, not ready, and what was promised before is kept', async ({ skip }) => {
  if (!mounted) return skip('a small disk can not be mounted here');
  const at = createHarness({ file: path.join(folder, 'lastwill.sqlite') });
  at.engine.start();
  try {
    // Whoever is not there is gone, and their delegation ended, by the time that the disk is full.
    at.sfu.inRooms.set(room(1), [seen()]);
    let n = 1;
    let reply = await at.post(handOverBody(n), { n });
    const { id } = reply.json;
    while (reply.status === 201) {
      n += 1;
      reply = await at.patient(at.post(handOverBody(n), { n }));
    }
    expect([reply.status, reply.json.errcode, reply.headers.get('retry-after')]).toEqual([503, 'M_UNKNOWN', '2']);
    while ((await at.ask('GET', '/readyz')).status === 200);
    expect((await at.ask('GET', '/readyz')).json).toMatchObject({ ready: false, store: 'not writable' });
    const joined = participantEvent('participant_joined', 1);
    expect((await at.hook(joined)).status).toBe(503);
    expect(await at.stored()).toBe(n - 1);
    expect((await at.ask('GET', '/healthz')).status).toBe(200);
    execFileSync('mount', ['-o', 'remount,size=8m', folder]);
    expect((await at.ask('GET', '/readyz')).json).toMatchObject({ ready: true, store: 'writable' });
    expect((await at.hook(joined)).status).toBe(200);
    expect((await at.post(handOverBody(1), { n: 1 })).json).toMatchObject({ id, state: 'connected' });
    expect((await at.post(handOverBody(n), { n })).status).toBe(201);
    expect(at.log.join('\n')).not.toMatch(SECRETS);
    expect(at.log.filter((line) => line.includes('can not make writes durable'))[0]).toContain('"why":"database or disk is full"');
  } finally {
    await at.close();
  }
});
