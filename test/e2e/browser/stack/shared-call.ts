// Before all browser stories: one Synapse, one LiveKit, the service under test and our web server. After all: the times.
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestProject } from 'vitest/node';
import { Homeserver } from '../../stack/homeserver.ts';
import type { LiveKitAddress } from '../../stack/livekit.ts';
import { freePort } from '../../stack/processes.ts';
import { printedRegistration } from '../../stack/registration.ts';
import { WebhookTap } from '../../stack/webhooks.ts';
import { noChromium } from './chromium-binary.ts';
import { Pages } from './pages.ts';
import { Service } from './service.ts';
import { Sfu } from './sfu.ts';
import { printTimes } from './times.ts';

export interface SharedCall {
  readonly homeserverUrl: string;
  readonly homeserverLog: string;
  readonly sfu: LiveKitAddress;
  readonly serviceUrl: string;
  readonly serviceLog: string;
  readonly tapUrl: string;
  readonly pagesUrl: string;
  readonly timesFile: string;
}

declare module 'vitest' {
  export interface ProvidedContext {
    readonly call: SharedCall;
  }
}

/** `proxies`: the homeserver passes requests on to the service as well. */
export async function startCall(
  timesFile: string,
  options: { proxies?: boolean } = {},
): Promise<{ call: SharedCall; stop: () => Promise<void> }> {
  const port = await freePort();
  const serviceUrl = `http://127.0.0.1:${port}`;
  const tap = await WebhookTap.start();
  const [homeserver, sfu, pages] = await Promise.all([
    Homeserver.start({ serviceUrl, ...(options.proxies ? { registration: (name) => printedRegistration(name, serviceUrl) } : {}) }),
    Sfu.start([`${serviceUrl}/sfu_webhook`, tap.url]),
    Pages.start(),
  ]);
  const env: Record<string, string> = options.proxies ? { LIVEKIT_AS_REGISTRATION_FILE: homeserver.registrationFile } : {};
  const service = await Service.start(port, sfu.address, homeserver, { peer: process.env.LASTWILL_PEER, env });
  return {
    call: {
      homeserverUrl: homeserver.url,
      homeserverLog: homeserver.logFile,
      sfu: sfu.address,
      serviceUrl,
      serviceLog: service.logFile,
      tapUrl: tap.url,
      pagesUrl: pages.url,
      timesFile,
    },
    stop: async () => {
      await service.stop();
      await Promise.all([sfu.kill(), homeserver.kill()]);
      tap.stop();
      pages.stop();
    },
  };
}

export default async function setup(project: TestProject): Promise<(() => Promise<void>) | undefined> {
  if (noChromium !== undefined) {
    console.warn(`The browser stories are skipped: ${noChromium}`);
    return undefined;
  }
  const { call, stop } = await startCall(join(mkdtempSync(join(tmpdir(), 'lastwill-e2e-times-')), 'times.jsonl'));
  project.provide('call', call);
  return async () => {
    await stop();
    printTimes(call.timesFile);
  };
}
