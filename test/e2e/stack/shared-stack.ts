// Before all stories: one LiveKit, one Synapse and one lastwill for every story that harms none of them. After all: the times.
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestProject } from 'vitest/node';
import { Lastwill, synapseAt } from './lastwill.ts';
import { LiveKit, type LiveKitAddress } from './livekit.ts';
import { freePort } from './processes.ts';
import { Synapse } from './synapse.ts';
import { printTimes } from './times.ts';
import { WebhookTap } from './webhooks.ts';

export interface SharedStack {
  readonly synapseUrl: string;
  readonly synapseLog: string;
  readonly sfu: LiveKitAddress;
  readonly lastwillUrl: string;
  readonly lastwillLog: string;
  readonly tapUrl: string;
  readonly timesFile: string;
}

declare module 'vitest' {
  export interface ProvidedContext {
    readonly shared: SharedStack;
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const port = await freePort();
  const tap = await WebhookTap.start();
  const [synapse, livekit] = await Promise.all([Synapse.start(), LiveKit.start([`http://127.0.0.1:${port}/sfu_webhook`, tap.url])]);
  const lastwill = await Lastwill.start({ port, sfu: livekit.address, homeservers: synapseAt(synapse.url) });
  const timesFile = join(mkdtempSync(join(tmpdir(), 'lastwill-e2e-times-')), 'times.jsonl');
  project.provide('shared', {
    synapseUrl: synapse.url,
    synapseLog: synapse.logFile,
    sfu: livekit.address,
    lastwillUrl: lastwill.url,
    lastwillLog: lastwill.logFile,
    tapUrl: tap.url,
    timesFile,
  });
  return async () => {
    await lastwill.stop();
    await Promise.all([livekit.kill(), synapse.kill()]);
    tap.stop();
    printTimes(timesFile, project.name);
  };
}
