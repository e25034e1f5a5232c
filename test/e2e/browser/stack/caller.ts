// Somebody in a browser who takes part in a call, the room that others watch, and what is known of both.
import { readFileSync } from 'node:fs';
import { expect, inject, test } from 'vitest';
import { register } from '../../stack/homeserver.ts';
import { sfuUrl } from '../../stack/livekit.ts';
import { eventually, now, sleep } from '../../stack/processes.ts';
import { recordTime } from '../../stack/times.ts';
import type { Webhook } from '../../stack/webhooks.ts';
import type { Credentials, MemberOrder, Mode, Report } from '../page/contract.ts';
import { Chromium } from './chromium.ts';
import { type Announcement, ObservedRoom } from './observed-room.ts';
import type { SharedCall } from './shared-call.ts';

const JOINING_MS = 40_000;

/** Where somebody sits on the SFU. */
export interface Seat {
  readonly sfuRoom: string;
  readonly identity: string;
}

export class Caller {
  readonly call: SharedCall;
  readonly credentials: Credentials;
  readonly room: ObservedRoom;
  readonly chromium: Chromium;
  readonly #console: string[] = [];

  constructor(call: SharedCall, credentials: Credentials, room: ObservedRoom, chromium: Chromium) {
    this.call = call;
    this.credentials = credentials;
    this.room = room;
    this.chromium = chromium;
    chromium.page.on('console', (message) => this.#console.push(`${message.type()}: ${message.text()}`));
  }

  /** Opens the member page, which joins by itself; returns when it is in the call and its delegation has been taken up. */
  async join(mode: Mode, options: { delegate?: boolean; by?: MemberOrder['by'] } = {}): Promise<Report> {
    const order: MemberOrder = {
      credentials: this.credentials,
      room: this.room.id,
      serviceUrl: this.call.serviceUrl,
      by: options.by ?? 'service',
      sfuUrl: sfuUrl(this.call.sfu),
      mode,
      delegate: options.delegate ?? true,
    };
    await this.chromium.page.goto(`${this.call.pagesUrl}/member.html#${encodeURIComponent(JSON.stringify(order))}`);
    return options.delegate === false ? this.joined() : this.delegated();
  }

  async report(): Promise<Report> {
    const report = (await this.chromium.page.evaluate('window.report')) as Report | undefined;
    if (report === undefined) throw new Error('the page has not begun');
    return report;
  }

  async joined(): Promise<Report> {
    const report = await this.reaches('the page to be in the call', ({ steps, connected }) => steps.includes('joined') && connected);
    await eventually('the membership in the room', JOINING_MS, () => this.here(report) ?? undefined);
    return report;
  }

  /** In the call, the newest delayed leave handed over and restarted by the service, which has thus found it and the participant. */
  async delegated(): Promise<Report> {
    await this.joined();
    const report = await this.reaches('the page to delegate its leave', ({ steps, delays }) =>
      steps.includes(`delegated ${delays.length}`),
    );
    await this.restarted(report.delays.at(-1)?.delayId ?? '');
    return report;
  }

  /** The service has restarted that delayed event: it knows of it, and of a participant whom it belongs to. */
  async restarted(delayId: string): Promise<void> {
    await eventually(`the service to restart ${delayId}`, JOINING_MS, () => {
      const calls = this.calls(delayId);
      return calls.includes('restart 200') ? true : fail(`calls of the service about it: ${calls.join(', ') || 'none'}`);
    });
  }

  reaches(what: string, holds: (report: Report) => boolean, timeoutMs = JOINING_MS): Promise<Report> {
    return eventually(what, timeoutMs, async () => {
      const report = await this.report();
      if (report.failures.length === 0 && holds(report)) return report;
      return fail(`${JSON.stringify({ ...report, delays: report.delays.length })}\n${this.#console.slice(-5).join('\n')}`);
    });
  }

  /** What the service (not the browser) did to a delayed event, with Synapse's answer: `restart 200`. */
  calls(delayId: string): string[] {
    return readFileSync(this.call.homeserverLog, 'utf8')
      .split('\n')
      .filter((line) => line.includes(`/delayed_events/${delayId}`) && line.includes('Processed request') && !line.includes('Mozilla'))
      .map((line) => `${/delayed_events\/[^/ ?]+\/([a-z]+)/.exec(line)?.[1] ?? 'other'} ${/ (\d{3}) "/.exec(line)?.[1] ?? '?'}`);
  }

  announcements(): Announcement[] {
    return this.room.announcements(this.credentials.userId);
  }

  here(report: Report): Announcement | undefined {
    return this.announcements().findLast(({ kind, key }) => kind === 'here' && belongs(key, report));
  }

  leaves(): Announcement[] {
    return this.announcements().filter(({ kind }) => kind === 'gone');
  }

  async webhooks({ sfuRoom, identity }: Seat): Promise<Webhook[]> {
    const response = await fetch(`${this.call.tapUrl}/?room=${encodeURIComponent(sfuRoom)}`);
    return ((await response.json()) as Webhook[]).filter((webhook) => webhook.identity === identity);
  }

  /** No leave while `durationMs` pass. */
  async expectPresentFor(durationMs: number): Promise<void> {
    const untilMs = now() + durationMs;
    while (now() < untilMs) {
      expect(this.leaves(), 'false leave').toEqual([]);
      await sleep(Math.min(200, Math.max(1, untilMs - now())));
    }
    expect(this.leaves(), 'false leave').toEqual([]);
  }

  /** The homeserver took no leave since the return, until `durationMs` have passed. With a key, only that membership counts. */
  async expectNoLeaveSince(returnedMs: number, durationMs: number, membership?: string): Promise<void> {
    const untilMs = now() + durationMs;
    do {
      await sleep(200);
      const since = this.leaves().filter(({ key, sentMs }) => sentMs > returnedMs && (membership ?? key) === key);
      expect(since, 'false leave').toEqual([]);
    } while (now() < untilMs);
  }

  /** The first leave, seen after the departure and within the bound; its time goes into the table. */
  async expectLeave(story: string, seat: Seat, departedMs: number, boundMs: number): Promise<Announcement> {
    const leave = await eventually(`the leave of ${story}`, Math.max(0, departedMs + boundMs - now()), () => this.leaves()[0]);
    expect(leave.atMs, 'a leave before the departure').toBeGreaterThan(departedMs);
    const told = (await this.webhooks(seat)).find(
      ({ event, atMs }) => event === 'participant_left' && atMs >= departedMs - 50 && atMs <= leave.atMs,
    );
    const afterWebhookMs = told === undefined ? null : leave.atMs - told.atMs;
    this.record(story, leave.atMs - departedMs, afterWebhookMs, told?.reason ?? 'no webhook before it');
    return leave;
  }

  record(story: string, tookMs: number, afterWebhookMs: number | null, note: string): void {
    recordTime(this.call.timesFile, { story, tookMs, afterWebhookMs, note });
  }

  async end(): Promise<void> {
    this.room.watcher.stop();
    await this.chromium.end();
  }
}

function fail(last: string): never {
  throw new Error(last);
}

/** A state key names user and device, a sticky key is the member id. */
const belongs = (key: string, { memberId }: Report): boolean => key === memberId || key.startsWith('_@') || key.startsWith('@');

/** On the shared stack, unless another is given. */
export type NewCaller = (name?: string, call?: SharedCall) => Promise<Caller>;

/** A story with as many people as it wants, each in a browser and a room of its own. */
export const browserStory = test.extend<{ newCaller: NewCaller }>({
  newCaller: async ({ onTestFinished }, use) => {
    await use(async (name = 'alice', call = inject('call')) => {
      const [credentials, room, chromium] = await Promise.all([
        register(call.homeserverUrl, name),
        ObservedRoom.create(call.homeserverUrl),
        Chromium.start(),
      ]);
      const caller = new Caller(call, credentials, room, chromium);
      onTestFinished(() => caller.end());
      await room.admit(credentials);
      return caller;
    });
  },
});
