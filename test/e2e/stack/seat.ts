// A participant's place on the SFU, and what it may ask lastwill with its own LiveKit token.
import { randomBytes } from 'node:crypto';
import { expect } from 'vitest';
import type { Delegate, Delegation, LastwillApi } from './lastwill-api.ts';
import { type LiveKitAddress, participantToken, sfuUrl } from './livekit.ts';
import { Participant } from './participant.ts';
import { recordTime } from './times.ts';
import type { Webhook } from './webhooks.ts';

/** Where a story happens. `webhooks` finds LiveKit's own notices of a room. */
export interface Place {
  readonly synapseUrl: string;
  readonly synapseLog: string;
  readonly sfu: LiveKitAddress;
  readonly lastwill: LastwillApi;
  readonly webhooks: (room: string) => Promise<readonly Webhook[]>;
  readonly timesFile: string;
  /** Other stories use this lastwill, too. */
  readonly shared: boolean;
}

/** What lastwill promises after LiveKit's word, with homeserver and SFU up: the wait (1 s) and one more second. */
const PROMISED_MS = 2_000;

export interface SeatNames {
  readonly sfuRoom: string;
  readonly identity: string;
  readonly token: string;
}

export async function seatNames(
  identity = `identity-${randomBytes(6).toString('hex')}`,
  sfuRoom = `room-${randomBytes(6).toString('hex')}`,
): Promise<SeatNames> {
  return { sfuRoom, identity, token: await participantToken(sfuRoom, identity) };
}

export class Seat {
  readonly place: Place;
  readonly sfuRoom: string;
  readonly identity: string;
  readonly token: string;
  #late = false;
  readonly #participants: Participant[] = [];

  constructor(place: Place, names: SeatNames) {
    this.place = place;
    this.sfuRoom = names.sfuRoom;
    this.identity = names.identity;
    this.token = names.token;
  }

  /** Hands something over, and insists that it was taken. */
  async handOver(delegation: Delegate): Promise<Delegation> {
    const answer = await this.place.lastwill.delegate(this.token, delegation);
    expect(answer, JSON.stringify(answer.body)).toMatchObject({ status: 201, body: { id: expect.any(String) } });
    return answer.body;
  }

  async join(options: { publish?: boolean } = {}): Promise<Participant> {
    const participant = await this.prepare();
    await this.joinWith(participant, options);
    return participant;
  }

  /** A process that can join at a moment's notice. */
  async prepare(): Promise<Participant> {
    const participant = await Participant.prepare();
    this.#participants.push(participant);
    return participant;
  }

  async joinWith(participant: Participant, options: { publish?: boolean } = {}): Promise<void> {
    await participant.connect(sfuUrl(this.place.sfu), this.token, options);
  }

  async look(delegation: Delegation): Promise<Delegation> {
    return (await this.place.lastwill.look(this.token, delegation.id)).body;
  }

  reaches(delegation: Delegation, state: Delegation['state'], timeoutMs = 5_000): Promise<Delegation> {
    return this.place.lastwill.reaches(this.token, delegation.id, state, timeoutMs);
  }

  /**
   * lastwill counted no sin. A machine busy with many stories may make one late, which lastwill rightly counts: the story's own bound
   * judges that one.
   */
  async expectNoSin(): Promise<void> {
    if (!this.place.shared && !this.#late) expect(await this.place.lastwill.metric('lastwill_ghosts_total'), 'ghosts').toBe(0);
    await this.expectNoFalseLeave();
  }

  async expectNoFalseLeave(): Promise<void> {
    expect(await this.place.lastwill.metric('lastwill_false_leaves_total'), 'false leaves').toBe(0);
  }

  /** Into the table, beside the moment LiveKit told of the departure. */
  async record(story: string, departedMs: number, seenMs: number, note = ''): Promise<number> {
    const left = (await this.place.webhooks(this.sfuRoom)).find(
      ({ identity, event, atMs }) =>
        identity === this.identity && /^participant_(left|connection_aborted)$/.test(event) && atMs >= departedMs && atMs <= seenMs,
    );
    const afterWebhookMs = left === undefined ? null : seenMs - left.atMs;
    this.#late ||= (afterWebhookMs ?? 0) > PROMISED_MS - 100;
    recordTime(this.place.timesFile, { story, tookMs: seenMs - departedMs, afterWebhookMs, note });
    return seenMs - departedMs;
  }

  async end(): Promise<void> {
    await Promise.all(this.#participants.map((participant) => participant.end()));
  }
}
