// Another API key for the SFU, as the README says it is changed, while a call goes on.
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'vitest';
import { API_KEY, API_SECRET } from './stack/livekit.ts';
import { story } from './stack/place.ts';
import { eventually, now } from './stack/processes.ts';

const SOON_MS = 3_000;
const OLD = [API_KEY, API_SECRET] as const;
const NEW = ['e2e-new-key', 'another-e2e-secret-of-at-least-32-characters'] as const;

story("the SFU's API key is changed: who is in a call stays, and is heard to leave", async ({ stage }) => {
  const keyFile = join(mkdtempSync(join(tmpdir(), 'lastwill-e2e-keys-')), 'keys');
  const haveKeys = (...keys: readonly (readonly [string, string])[]) =>
    writeFileSync(keyFile, keys.map(([key, secret]) => `${key}: ${secret}\n`).join(''), { mode: 0o600 });
  haveKeys(OLD);
  const place = await stage.place({ env: { LIVEKIT_KEY_FILE: keyFile } });
  const alice = await stage.member(place);
  const delegation = await alice.scheduleAndDelegate(60_000);
  const participant = await alice.join();
  await alice.reaches(delegation, 'connected');

  haveKeys(OLD, NEW);
  await place.lastwill.stop();
  await place.lastwill.startAgain();
  await place.livekit.kill();
  const killedMs = now();
  await place.livekit.startAgain({ keys: Object.fromEntries([OLD, NEW]), webhook: { api_key: NEW[0], urls: [place.tap.url] } });
  await eventually('the participant to come back', 30_000, () =>
    place.tap.find('participant_joined', alice.identity).find((webhook) => webhook.atMs > killedMs),
  );
  await alice.expectPresentFor(20_000);

  haveKeys(NEW, OLD);
  await place.lastwill.stop();
  await place.lastwill.startAgain();
  await alice.expectPresentFor(5_000);
  // By its token of before.
  await alice.reaches(delegation, 'connected');
  await alice.expectLeave("the SFU's key changed, then gone", await participant.leave(), SOON_MS);
  expect(new Set(place.tap.answers)).toEqual(new Set([200]));
  await alice.expectClean();
});
