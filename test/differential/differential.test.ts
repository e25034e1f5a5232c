// Another service with the same API, named by LASTWILL_PEER, and lastwill: the same questions, the same answers, or a reason.
import { isDeepStrictEqual } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Case, casesOf, DELEGATION, type Difference, endpoints, INTENDED } from './cases.ts';
import { isLaterSetting, isOlder, olderDifference } from './older.ts';
import { effectCases, INTENDED_EFFECTS, INTENDED_SETTINGS, SETTINGS_CASES, type SettingsDifference } from './settings-cases.ts';
import { type Answered, LASTWILL, openStand, peerOf, type Running, type Stand } from './stand.ts';
import { wireCases } from './wire-cases.ts';

const PEER = process.env.LASTWILL_PEER ?? '';
const SLOW_MS = 180_000;

test.runIf(PEER === '')('nothing is compared: LASTWILL_PEER holds no start command of another service', ({ skip }) => skip());

describe.skipIf(PEER === '')('beside another service', () => {
  let stand: Stand;
  const services: Running[] = [];
  beforeAll(async () => {
    stand = await openStand();
    services.push(await stand.start(peerOf(PEER)), await stand.start(LASTWILL));
  }, SLOW_MS);
  afterAll(async () => stand?.close(), SLOW_MS);

  async function answers({ wanted, roomStatus }: Case): Promise<readonly Answered[]> {
    const all: Answered[] = [];
    stand.roomStatus = roomStatus ?? 200;
    for (const service of services) all.push(await service.ask(wanted));
    return all;
  }

  test(
    'every question is answered alike, or differs as it is meant to',
    async () => {
      const [unlike, alike]: [unknown[], string[]] = [[], []];
      const [peer] = services;
      const older = peer !== undefined && (await isOlder(peer));
      const used = new Set<Difference>();
      for (const one of [...(await casesOf(stand)), ...wireCases(stand)]) {
        const [theirs, ours] = await answers(one);
        const same = isDeepStrictEqual(theirs, ours);
        const explained = older && theirs !== undefined && ours !== undefined ? olderDifference(one.wanted, theirs, ours) : null;
        if (one.differs === undefined && !same && explained === null) unlike.push({ name: one.name, theirs, ours });
        if (one.differs !== undefined && same && !older) alike.push(`${one.name}: ${one.differs}`);
        if (one.differs !== undefined) used.add(one.differs);
      }
      expect(unlike, 'differences that nobody meant').toEqual([]);
      expect(alike, 'differences that are none').toEqual([]);
      expect([...used].sort(), 'each difference is shown').toEqual(Object.keys(INTENDED).sort());
    },
    SLOW_MS,
  );

  test(
    'the same settings start both, or differ as they are meant to',
    async () => {
      const unlike: string[] = [];
      const [peer] = services;
      const older = peer !== undefined && (await isOlder(peer));
      const used = new Set<SettingsDifference>();
      for (const { name, differs, ...settings } of SETTINGS_CASES) {
        const [theirs, ours] = await Promise.all([stand.starts(peerOf(PEER), settings), stand.starts(LASTWILL, settings)]);
        if (differs !== undefined) used.add(differs);
        const isDifferent = theirs !== ours;
        if (isDifferent !== (differs !== undefined) && !(older && isLaterSetting(name)))
          unlike.push(`${name}: theirs ${theirs ? 'starts' : 'ends'}, ours ${ours ? 'starts' : 'ends'}`);
      }
      expect(unlike).toEqual([]);
      expect([...used].sort(), 'each difference is shown').toEqual(Object.keys(INTENDED_SETTINGS).sort());
    },
    SLOW_MS,
  );

  test(
    'the same settings do the same, or differ as they are meant to',
    async ({ skip }) => {
      const [peer] = services;
      if (peer === undefined || (await isOlder(peer))) return skip('the other service is an older one');
      const { token, openidToken, member } = endpoints(stand);
      const of = (name: string) => {
        return { openid_token: openidToken({ matrix_server_name: name }), member: member({ claimed_user_id: `@alice:${name}` }) };
      };
      const questions = [token(), token(DELEGATION), token(of(stand.guest)), token({ ...of(stand.lost), ...DELEGATION })];
      const [unlike, used]: [unknown[], Set<string>] = [[], new Set()];
      for (const { name, differs, ...settings } of effectCases(stand)) {
        const [theirs, ours] = await Promise.all([stand.start(peerOf(PEER), settings), stand.start(LASTWILL, settings)]);
        const told: [Answered, Answered][] = [];
        for (const question of questions) told.push([await theirs.ask(question), await ours.ask(question)]);
        await Promise.all([theirs.stop(), ours.stop()]);
        const different = told.filter(([one, other]) => !isDeepStrictEqual(one, other));
        if (different.length > 0 !== (differs !== undefined)) unlike.push({ name, different });
        if (differs !== undefined) used.add(differs);
      }
      expect(unlike).toEqual([]);
      expect([...used].sort(), 'each difference is shown').toEqual(Object.keys(INTENDED_EFFECTS).sort());
    },
    SLOW_MS,
  );
});
