// One member of a call: a Matrix user whose membership is in a room of Synapse, with its leave scheduled and (if the story wants)
// delegated, and a seat on the SFU. It watches its room all the time, so that no leave goes unseen.
import { expect } from 'vitest';
import type { Delegation } from './lastwill-api.ts';
import { MatrixClient, type RoomWatcher, type Sighting } from './matrix.ts';
import { eventually, now, sleep } from './processes.ts';
import { type Place, Seat, type SeatNames, seatNames } from './seat.ts';
import { SERVER_NAME } from './synapse.ts';

export const MEMBER = 'org.matrix.msc3401.call.member';

/** How a member comes to its room and its seat, where it is not alone in a room of its own with a name that nobody else has. */
export interface Entrance {
  readonly room?: (matrix: MatrixClient) => Promise<string>;
  readonly seat?: (matrix: MatrixClient, room: string) => Promise<SeatNames>;
}

export class Member extends Seat {
  readonly matrix: MatrixClient;
  readonly room: string;
  readonly watcher: RoomWatcher;
  readonly stateKey: string;

  private constructor(place: Place, names: SeatNames, matrix: MatrixClient, room: string, watcher: RoomWatcher) {
    super(place, names);
    this.matrix = matrix;
    this.room = room;
    this.watcher = watcher;
    this.stateKey = `_${matrix.userId}_DEVICE_m.call`;
  }

  /** In the Matrix room, membership sent; neither scheduled, delegated nor connected yet. */
  static async enter(place: Place, entrance: Entrance = {}): Promise<Member> {
    const matrix = await MatrixClient.register(place.synapseUrl, 'alice');
    const room = await (entrance.room?.(matrix) ?? matrix.createRoom());
    const names = await (entrance.seat?.(matrix, room) ?? seatNames());
    const member = new Member(place, names, matrix, room, await matrix.watch(room));
    await matrix.sendState(room, MEMBER, member.stateKey, { application: 'm.call', call_id: '', device_id: 'DEVICE' });
    return member;
  }

  scheduleLeave(delayMs: number): Promise<string> {
    return this.matrix.scheduleState(this.room, MEMBER, this.stateKey, {}, delayMs);
  }

  delegate(delayId: string, delayMs: number): Promise<Delegation> {
    return this.handOver({ homeserver: SERVER_NAME, leave: { delay_id: delayId }, timeout_ms: delayMs });
  }

  async scheduleAndDelegate(delayMs: number): Promise<Delegation> {
    return this.delegate(await this.scheduleLeave(delayMs), delayMs);
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

  /** The leave, seen in the room after the departure and within the bound; its time goes into the table. */
  async expectLeave(story: string, departedMs: number, boundMs: number, note = ''): Promise<number> {
    const sighting = await see(`the leave of ${story}`, departedMs, boundMs, () => this.leaves()[0]);
    expect(await this.matrix.state(this.room, MEMBER, this.stateKey)).toEqual({});
    return this.record(story, departedMs, sighting.atMs, note);
  }

  /** The same for an event that is not a leave of the membership. */
  async expectEvent(
    story: string,
    departedMs: number,
    boundMs: number,
    find: (sighting: Sighting) => boolean,
    watcher = this.watcher,
  ): Promise<Sighting> {
    const sighting = await see(story, departedMs, boundMs, () => watcher.sightings.find(find));
    await this.record(story, departedMs, sighting.atMs);
    return sighting;
  }

  /** Exactly so many leaves, and no sin counted. */
  async expectClean(leaves = 1): Promise<void> {
    expect(this.leaves()).toHaveLength(leaves);
    await this.expectNoSin();
  }

  /** The same where the leave could not be on time, and lastwill says so. */
  async expectLate(): Promise<void> {
    expect(this.leaves()).toHaveLength(1);
    await this.expectNoFalseLeave();
  }

  override async end(): Promise<void> {
    this.watcher.stop();
    await super.end();
  }
}

async function see(what: string, departedMs: number, boundMs: number, look: () => Sighting | undefined): Promise<Sighting> {
  const sighting = await eventually(what, Math.max(0, departedMs + boundMs - now()), look);
  expect(sighting.atMs, 'an event before the departure').toBeGreaterThan(departedMs);
  return sighting;
}
