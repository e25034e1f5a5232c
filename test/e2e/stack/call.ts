// One member of a call: a Matrix user whose membership is in a room, with its leave scheduled and (if the story wants) delegated,
// and a seat on the SFU. It watches its room all the time, so that no leave goes unseen.
import { randomBytes } from 'node:crypto';
import { expect } from 'vitest';
import type { Delegation, LastwillApi } from './lastwill-api.ts';
import { type LiveKitAddress, participantToken, sfuUrl } from './livekit.ts';
import { MatrixClient, type RoomWatcher, type Sighting } from './matrix.ts';
import { Participant } from './participant.ts';
import { eventually, now, sleep } from './processes.ts';
import { SERVER_NAME } from './synapse.ts';
import { recordTime } from './times.ts';
import type { Webhook } from './webhooks.ts';

export const MEMBER = 'org.matrix.msc3401.call.member';

/** Where a story happens. `webhooks` finds LiveKit's own notices of a room. */
export interface Place {
  readonly synapseUrl: string;
  readonly synapseLog: string;
  readonly sfu: LiveKitAddress;
  readonly lastwill: LastwillApi;
  readonly webhooks: (room: string) => Promise<readonly Webhook[]>;
  readonly timesFile: string;
}

export class Member {
  readonly place: Place;
  readonly matrix: MatrixClient;
  readonly room: string;
  readonly watcher: RoomWatcher;
  readonly sfuRoom: string;
  readonly identity: string;
  readonly token: string;
  readonly stateKey: string;
  readonly #participants: Participant[] = [];

  private constructor(
    place: Place,
    matrix: MatrixClient,
    room: string,
    watcher: RoomWatcher,
    sfuRoom: string,
    identity: string,
    token: string,
  ) {
    this.place = place;
    this.matrix = matrix;
    this.room = room;
    this.watcher = watcher;
    this.sfuRoom = sfuRoom;
    this.identity = identity;
    this.token = token;
    this.stateKey = `_${matrix.userId}_DEVICE_m.call`;
  }

  /** In the Matrix room, membership sent; neither scheduled, delegated nor connected yet. */
  static async enter(place: Place): Promise<Member> {
    const matrix = await MatrixClient.register(place.synapseUrl, 'alice');
    const room = await matrix.createRoom();
    const watcher = await matrix.watch(room);
    const sfuRoom = `room-${randomBytes(6).toString('hex')}`;
    const identity = `identity-${randomBytes(6).toString('hex')}`;
    const token = await participantToken(sfuRoom, identity);
    const member = new Member(place, matrix, room, watcher, sfuRoom, identity, token);
    await member.announce();
    return member;
  }

  async announce(): Promise<void> {
    await this.matrix.sendState(this.room, MEMBER, this.stateKey, { application: 'm.call', call_id: '', device_id: 'DEVICE' });
  }

  scheduleLeave(delayMs: number): Promise<string> {
    return this.matrix.scheduleState(this.room, MEMBER, this.stateKey, {}, delayMs);
  }

  /** Hands a delayed event over, and insists that it was taken. */
  async delegate(delayId: string, delayMs: number): Promise<Delegation> {
    const answer = await this.place.lastwill.delegate(this.token, {
      homeserver: SERVER_NAME,
      leave: { delay_id: delayId },
      timeout_ms: delayMs,
    });
    expect(answer, JSON.stringify(answer.body)).toMatchObject({ status: 201, body: { id: expect.any(String) } });
    return answer.body;
  }

  async scheduleAndDelegate(delayMs: number): Promise<Delegation> {
    return this.delegate(await this.scheduleLeave(delayMs), delayMs);
  }

  async join(options: { publish?: boolean } = {}): Promise<Participant> {
    const participant = await Participant.join(sfuUrl(this.place.sfu), this.token, options);
    this.#participants.push(participant);
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

  look(delegation: Delegation): Promise<Delegation> {
    return this.place.lastwill.look(this.token, delegation.id).then((answer) => answer.body);
  }

  reaches(delegation: Delegation, state: Delegation['state'], timeoutMs = 5_000): Promise<Delegation> {
    return this.place.lastwill.reaches(this.token, delegation.id, state, timeoutMs);
  }

  leaves(): Sighting[] {
    return this.watcher.sightings.filter(
      ({ event }) => event.type === MEMBER && event.state_key === this.stateKey && Object.keys(event.content).length === 0,
    );
  }

  /** No leave has been seen so far, and the room's state says so too. */
  async expectPresent(): Promise<void> {
    expect(this.leaves(), 'false leave').toEqual([]);
    expect(await this.matrix.state(this.room, MEMBER, this.stateKey)).toMatchObject({ application: 'm.call' });
  }

  /** No leave while `durationMs` pass. */
  async expectPresentFor(durationMs: number): Promise<void> {
    const untilMs = now() + durationMs;
    while (now() < untilMs) {
      await sleep(Math.min(250, untilMs - now()));
      expect(this.leaves(), 'false leave').toEqual([]);
    }
    await this.expectPresent();
  }

  /** The one leave, seen in the room after the departure and within the bound; its time goes into the table. */
  async expectLeave(story: string, departedMs: number, boundMs: number, note = ''): Promise<number> {
    const sighting = await this.#see(`the leave of ${story}`, departedMs, boundMs, () => this.leaves()[0]);
    expect(await this.matrix.state(this.room, MEMBER, this.stateKey)).toEqual({});
    return this.#record(story, departedMs, sighting, note);
  }

  /** The same for an event that is not a leave of the membership. */
  async expectEvent(
    story: string,
    departedMs: number,
    boundMs: number,
    find: (sighting: Sighting) => boolean,
    watcher = this.watcher,
  ): Promise<Sighting> {
    const sighting = await this.#see(story, departedMs, boundMs, () => watcher.sightings.find(find));
    await this.#record(story, departedMs, sighting, '');
    return sighting;
  }

  /** Nothing more came, lastwill counted no sin. */
  async expectClean(leaves = 1): Promise<void> {
    expect(this.leaves()).toHaveLength(leaves);
    expect(await this.place.lastwill.metric('lastwill_ghosts_total')).toBe(0);
    expect(await this.place.lastwill.metric('lastwill_false_leaves_total')).toBe(0);
  }

  async end(): Promise<void> {
    this.watcher.stop();
    await Promise.all(this.#participants.map((participant) => participant.end()));
  }

  async #see(what: string, departedMs: number, boundMs: number, look: () => Sighting | undefined): Promise<Sighting> {
    const sighting = await eventually(what, Math.max(0, departedMs + boundMs - now()) + 1, look);
    expect(sighting.atMs, 'an event before the departure').toBeGreaterThan(departedMs);
    return sighting;
  }

  async #record(story: string, departedMs: number, sighting: Sighting, note: string): Promise<number> {
    const notices = await this.place.webhooks(this.sfuRoom);
    const left = notices.find(
      (webhook) =>
        webhook.identity === this.identity && /^participant_(left|connection_aborted)$/.test(webhook.event) && webhook.atMs >= departedMs,
    );
    const tookMs = sighting.atMs - departedMs;
    const afterWebhookMs = left === undefined || left.atMs > sighting.atMs ? null : sighting.atMs - left.atMs;
    recordTime(this.place.timesFile, { story, tookMs, afterWebhookMs, note });
    return tookMs;
  }
}
