// The two kinds of clients whose ways of leaving are recorded, each alone in a network namespace: @livekit/rtc-node in a process, and
// livekit-client in a Chromium.
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Chromium } from '../browser/stack/chromium.ts';
import { chromiumBinary } from '../browser/stack/chromium-binary.ts';
import type { Cable } from '../stack/network.ts';
import { Participant } from '../stack/participant.ts';
import type { Scenario } from '../stack/participant-process.ts';
import { eventually } from '../stack/processes.ts';

export interface Happened {
  readonly what: string;
  readonly atMs: number;
}

export interface Guest {
  hangUp(): Promise<unknown>;
  /** Ends at once, without a word. */
  kill(): Promise<unknown>;
  simulate(scenario: Scenario): Promise<void>;
  /** Null: a kind of client that has no such thing. */
  readonly closeTab: (() => Promise<unknown>) | null;
  readonly reload: (() => Promise<unknown>) | null;
  happened(): Promise<readonly Happened[]>;
  end(): Promise<void>;
}

export type GuestKind = 'rtc-node' | 'livekit-client';

export async function nodeGuest(cable: Cable, url: string, token: string): Promise<Guest> {
  const participant = await Participant.prepare(cable.namespace);
  await participant.connect(url, token, { publish: true });
  return {
    hangUp: () => participant.leave(),
    kill: () => participant.crash(),
    simulate: (scenario) => participant.simulate(scenario),
    closeTab: null,
    reload: null,
    happened: async () => participant.happened,
    end: () => participant.end(),
  };
}

const IN_BROWSER: Readonly<Record<Scenario, string>> = {
  'signal reconnect': 'signal-reconnect',
  'full reconnect': 'full-reconnect',
  migration: 'migration',
  'node failure': 'node-failure',
  'server leave': 'server-leave',
};

export async function browserGuest(cable: Cable, pagesUrl: string, url: string, token: string): Promise<Guest> {
  const executable = join(mkdtempSync(join(tmpdir(), 'lastwill-e2e-chromium-')), 'chromium');
  writeFileSync(executable, `#!/bin/sh\nexec ip netns exec ${cable.namespace} ${chromiumBinary} "$@"\n`, { mode: 0o755 });
  const chromium = await Chromium.start({ executable, trusted: pagesUrl });
  const { page } = chromium;
  const happened = async (): Promise<Happened[]> => ((await page.evaluate('window.guest?.happened')) ?? []) as Happened[];
  await page.goto(`${pagesUrl}/guest.html#${encodeURIComponent(JSON.stringify({ url, token }))}`);
  await eventually('the page to publish', 40_000, async () =>
    (await happened()).some(({ what }) => what === 'published') ? true : undefined,
  );
  return {
    hangUp: () => page.evaluate('window.guest.leave()'),
    kill: () => chromium.killTab(),
    simulate: async (scenario) => void (await page.evaluate(`window.guest.simulate('${IN_BROWSER[scenario]}')`)),
    closeTab: () => page.close(),
    reload: () => page.reload({ waitUntil: 'commit' }),
    happened: () => happened().catch(() => []),
    end: () => chromium.end(),
  };
}
