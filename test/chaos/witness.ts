// The witnesses of a run: a tap of LiveKit's webhooks that nothing is dropped from, a proxy before the homeserver that notes what the
// service asks of it, the room's events as the homeserver took them, and the machine's own standstills.
import { createServer, type Server as HttpServer, request } from 'node:http';
import type { RoomWatcher } from '../e2e/stack/matrix.ts';
import { freePort, now } from '../e2e/stack/processes.ts';
import { type Webhook, WebhookTap } from '../e2e/stack/webhooks.ts';
import type { Act, Announcement, Glimpse, Outage, Session } from './evidence.ts';
import { MEMBER } from './person.ts';

/** A timer this late means that nobody on this machine got to run in time. */
const STANDSTILL_MS = 150;
const TICK_MS = 50;

/** Who is on the SFU, from its own webhooks; a killed one tells nothing, so its end is told here. */
export class Attendance {
  readonly tap: WebhookTap;
  readonly #kills: number[] = [];

  private constructor(tap: WebhookTap) {
    this.tap = tap;
  }

  static async start(): Promise<Attendance> {
    return new Attendance(await WebhookTap.start());
  }

  sfuKilled(atMs: number): void {
    this.#kills.push(atMs);
  }

  sessions(told: ReadonlyMap<string, number>): Session[] {
    const began = new Map<string, Webhook>();
    for (const webhook of this.tap.seen) {
      if (webhook.event === 'participant_joined' && !began.has(webhook.sid)) began.set(webhook.sid, webhook);
    }
    return [...began.values()].map(({ sid, identity, atMs: fromMs }) => {
      const left = this.tap.seen.find((webhook) => webhook.event === 'participant_left' && webhook.sid === sid);
      const killedMs = this.#kills.find((atMs) => atMs > fromMs) ?? Number.POSITIVE_INFINITY;
      const killed = left === undefined || left.atMs > killedMs;
      const toMs = killed ? killedMs : left.atMs;
      return { identity, sid, fromMs, toMs, reason: killed ? 'SFU_KILLED' : left.reason, toldMs: told.get(sid) ?? null };
    });
  }
}

/** When sessions began to signal, from LiveKit's own log: nobody else need be awake for that. */
export function glimpsesIn(log: string): Glimpse[] {
  return log.split('\n').flatMap((line) => {
    if (!line.includes('"starting RTC session"')) return [];
    const { ts, participant, participantID } = JSON.parse(line) as { ts: number; participant: string; participantID: string };
    return [{ identity: participant, sid: participantID, atMs: ts * 1_000 }];
  });
}

/** Passes everything on to the homeserver, and notes calls about delayed events. */
export class HomeserverProxy {
  readonly url: string;
  readonly acts: readonly Act[];
  readonly #server: HttpServer;

  private constructor(url: string, acts: readonly Act[], server: HttpServer) {
    this.url = url;
    this.acts = acts;
    this.#server = server;
  }

  static async start(target: string): Promise<HomeserverProxy> {
    const port = await freePort();
    const acts: Act[] = [];
    const server = createServer((incoming, outgoing) => {
      const beganMs = now();
      const path = incoming.url ?? '/';
      const onward = request(`${target}${path}`, { method: incoming.method, headers: incoming.headers }, (answer) => {
        const note = /\/delayed_events\/([^/?]+)\/(\w+)/.exec(path);
        const [, delayId = '', action = ''] = note ?? [];
        if (note !== null) acts.push({ delayId, action, beganMs, endedMs: now(), status: answer.statusCode ?? 0 });
        outgoing.writeHead(answer.statusCode ?? 502, answer.headers);
        answer.pipe(outgoing);
      });
      onward.on('error', () => outgoing.destroy());
      // What has been asked for is asked for, whether or not somebody still waits for the answer.
      incoming.pipe(onward);
    });
    await new Promise<void>((listening) => server.listen(port, '127.0.0.1', listening));
    return new HomeserverProxy(`http://127.0.0.1:${port}`, acts, server);
  }

  stop(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }
}

/** What the rooms' observer saw, by the identity whose membership it is. */
export function announcementsIn(watchers: readonly RoomWatcher[], identityOf: (stateKey: string) => string | undefined): Announcement[] {
  return watchers.flatMap(({ sightings }) =>
    sightings.flatMap(({ event }) => {
      const identity = event.type === MEMBER ? identityOf(event.state_key ?? '') : undefined;
      if (identity === undefined) return [];
      const { origin_server_ts: atMs } = event as unknown as { origin_server_ts: number };
      const kind = Object.keys(event.content).length > 0 ? 'here' : 'gone';
      return [{ identity, atMs, kind, serial: Number(event.content.serial ?? 0) } as const];
    }),
  );
}

/** While it runs, notes when the machine let nobody run. */
export class Standstills {
  readonly found: Outage[] = [];
  readonly #timer: NodeJS.Timeout;

  constructor() {
    let lastMs = now();
    this.#timer = setInterval(() => {
      const atMs = now();
      if (atMs - lastMs > TICK_MS + STANDSTILL_MS) this.found.push({ part: 'machine', fromMs: lastMs + TICK_MS, toMs: atMs });
      lastMs = atMs;
    }, TICK_MS);
  }

  stop(): void {
    clearInterval(this.#timer);
  }
}
