import { expect, test } from 'vitest';
import type { ServerName } from '../../src/delegation/ids.ts';
import type { Federation } from '../../src/homeserver/federation.ts';
import { createOpenId } from '../../src/homeserver/openid.ts';
import { createOpenIdLimit } from '../../src/homeserver/openid-limit.ts';
import type { Outbound } from '../../src/homeserver/outbound.ts';
import { createVirtualClock } from '../support/virtual-clock.ts';

const name = (text: string): ServerName => text as ServerName;
const crowd = (count: number, of = 'slow.test') => Array.from({ length: count }, (_, n) => name(`${n}.${of}`));

const clock = createVirtualClock();

test('there is room for 256 homeservers at once that nobody knows', () => {
  const limit = createOpenIdLimit(4_096, clock);
  const leaves = crowd(256).map((one) => limit.enter(one));
  expect(leaves).not.toContain(null);
  expect(limit.enter(name('one.more.test'))).toBeNull();
  leaves[0]?.(false);
  expect(limit.enter(name('one.more.test'))).not.toBeNull();
  expect(limit.enter(name('another.test'))).toBeNull();
});

test('all tokens of one homeserver take one place, until the last has been asked about', () => {
  const limit = createOpenIdLimit(4_096, clock);
  crowd(255).map((one) => limit.enter(one));
  const leaves = Array.from({ length: 1_000 }, () => limit.enter(name('busy.test')));
  expect(leaves).not.toContain(null);
  for (const leave of leaves.slice(1)) leave?.(false);
  expect(limit.enter(name('one.more.test'))).toBeNull();
  leaves[0]?.(false);
  expect(limit.enter(name('one.more.test'))).not.toBeNull();
});

test('there is room for those that have named a user before', () => {
  const limit = createOpenIdLimit(4_096, clock);
  limit.enter(name('real.test'))?.(true);
  limit.enter(name('unreal.test'))?.(false);
  crowd(256).map((one) => limit.enter(one));
  expect(limit.enter(name('unreal.test'))).toBeNull();
  expect(limit.enter(name('real.test'))).not.toBeNull();
});

test('one homeserver has half of all tokens at most, others a little each of the rest, and all together no more than there may be', async () => {
  const limit = createOpenIdLimit(64, clock);
  const taken = (of: string): number => {
    let count = 0;
    while (limit.enter(name(of)) !== null) count += 1;
    return count;
  };
  limit.enter(name('real.test'))?.(true);
  await clock.advance(2_000);
  expect(taken('hangs.test')).toBe(32);
  expect([taken('real.test'), taken('other.test')]).toEqual([2, 2]);
  expect(crowd(20).reduce((sum, one) => sum + taken(one), 0)).toBe(28);
  expect(limit.enter(name('real.test'))).toBeNull();
});

test('a homeserver that names its users may have all that there may be, and a little of them again once it does not', async () => {
  const limit = createOpenIdLimit(64, clock);
  limit.enter(name('real.test'))?.(true);
  const leaves = Array.from({ length: 64 }, () => limit.enter(name('real.test')));
  expect(leaves).not.toContain(null);
  expect(limit.enter(name('real.test'))).toBeNull();
  for (const leave of leaves.slice(0, 20)) leave?.(false);
  await clock.advance(2_000);
  expect(limit.enter(name('real.test'))).toBeNull();
  expect([limit.enter(name('other.test')), limit.enter(name('other.test')), limit.enter(name('other.test'))].indexOf(null)).toBe(2);
});

test('however few there may be, each homeserver may have one', () => {
  const limit = createOpenIdLimit(3, clock);
  expect([limit.enter(name('a.test')), limit.enter(name('a.test'))]).not.toContain(null);
  expect(limit.enter(name('a.test'))).toBeNull();
  expect(limit.enter(name('b.test'))).not.toBeNull();
});

test('a token of one homeserver too many is refused at once, and no longer when others have been given up', async () => {
  const hung = Promise.withResolvers<{ kind: 'failed'; reached: false; why: 'timeout' }>();
  let asked = 0;
  const outbound: Pick<Outbound, 'request'> = {
    request: () => {
      asked += 1;
      return hung.promise;
    },
  };
  const at = { kind: 'target', host: 'x', port: 1, hostHeader: 'x', tlsName: 'x', addresses: 'public' } as const;
  const federation: Federation = { resolve: async () => ({ kind: 'targets', targets: [at] }) };
  const openId = createOpenId({ clock, federation, outbound: outbound as Outbound, limit: createOpenIdLimit(4_096, clock) });
  const check = (serverName: ServerName) => openId.check({ accessToken: 'token', serverName });
  const hanging = crowd(256).map(check);
  expect(await check(name('one.more.test'))).toEqual({ kind: 'refused', why: 'too many others are being asked about' });
  expect(asked).toBe(256);
  hung.resolve({ kind: 'failed', reached: false, why: 'timeout' });
  await Promise.all(hanging);
  expect(await check(name('one.more.test'))).toEqual({ kind: 'refused', why: 'its homeserver could not be asked: timeout' });
});
