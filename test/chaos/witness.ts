// The witnesses of a run: LiveKit's own log, a proxy before the homeserver that notes what the
// service asks of it, the room's events as the homeserver took them, and the machine's own standstills.
import { createServer, type Server as HttpServer, request } from 'node:http';
import type { RoomWatcher } from '../e2e/stack/matrix.ts';
import { freePort, now } from '../e2e/stack/processes.ts';
import type { Act, Announcement, Glimpse, Outage, Session } from './evidence.ts';
import { MEMBER } from './person.ts';

/** A timer this late means that nobody on this machine got to run in time. */
const STANDSTILL_MS = 60;
const TICK_MS = 50;

/** LiveKit's names for why it closed a session, as its webhooks say it. Those that aren't here are lost connections of some kind. */
const REASON_OF_CLOSE: Readonly<Record<string, string>> = {
  CLIENT_REQUEST_LEAVE: 'CLIENT_INITIATED',
  DUPLICATE_IDENTITY: 'DUPLICATE_IDENTITY',
  PEER_CONNECTION_DISCONNECTED: 'CONNECTION_TIMEOUT',
  ROOM_MANAGER_STOP: 'SERVER_SHUTDOWN',
  SIGNAL_SOURCE_CLOSE: 'SIGNAL_CLOSE',
  SIMULATE_MIGRATION: 'MIGRATION',
};

interface Line {
  readonly msg: string;
  /** Unix seconds. */
  readonly ts: number;
  readonly participant: string;
  readonly participantID: string;
  readonly reason: string;
}

/** What LiveKit's own log says of its participants: nobody else need be awake for that. A killed one tells no ends; `killsMs` does. */
export function attendanceIn(log: string, killsMs: readonly number[], told: ReadonlyMap<string, number>) {
  const lines = log.split('\n').flatMap((line) => {
    const wanted = ['"starting RTC session"', '"participant active"', '"participant closing"'].some((msg) => line.includes(msg));
    return wanted ? [JSON.parse(line) as Line] : [];
  });
  const glimpses: Glimpse[] = [];
  const active = new Map<string, Line>();
  const closing = new Map<string, Line>();
  for (const line of lines) {
    if (line.msg === 'starting RTC session') glimpses.push({ identity: line.participant, sid: line.participantID, atMs: line.ts * 1_000 });
    else if (line.msg === 'participant active') active.set(line.participantID, active.get(line.participantID) ?? line);
    else closing.set(line.participantID, line);
  }
  const attempts = glimpses.filter(({ sid }) => !active.has(sid) && closing.has(sid));
  const begun = [...active.values()].map(({ participant: identity, participantID: sid, ts }) => ({ identity, sid, atMs: ts * 1_000 }));
  const sessions = [...begun, ...attempts].map(({ identity, sid, atMs: fromMs }): Session => {
    const end = closing.get(sid);
    const killedMs = killsMs.find((atMs) => atMs > fromMs) ?? Number.POSITIVE_INFINITY;
    const toldMs = told.get(sid) ?? null;
    if (end === undefined || end.ts * 1_000 > killedMs) return { identity, sid, fromMs, toMs: killedMs, reason: 'SFU_KILLED', toldMs };
    const reason = active.has(sid) ? (REASON_OF_CLOSE[end.reason] ?? end.reason) : 'ABORTED';
    return { identity, sid, fromMs, toMs: end.ts * 1_000, reason, toldMs };
  });
  return { sessions, glimpses };
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

  /** `target` is asked for each time: the proxy's URL has to be known before the homeserver starts. */
  static async start(target: () => string): Promise<HomeserverProxy> {
    const port = await freePort();
    const acts: Act[] = [];
    const server = createServer((incoming, outgoing) => {
      const beganMs = now();
      const path = incoming.url ?? '/';
      const onward = request(`${target()}${path}`, { method: incoming.method, headers: incoming.headers }, (answer) => {
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
