// Delegations in the tables: found by what a step is about, and written by what has changed.
import { dueAtMs } from '../../delegation/decide.ts';
import { eventHashesOf } from '../../delegation/handles.ts';
import type { DelegationId, EventHash, RoomName } from '../../delegation/ids.ts';
import type { Delegation } from '../../delegation/state.ts';
import { decode, type Encoded, encode } from '../codec.ts';
import type { Seal } from '../seal.ts';
import { slotOf } from '../slots.ts';
import { FIRST_PART, type RoomPart, type Where } from '../store.ts';
import { type Kept, Recent } from './recent.ts';
import type { prepareAll } from './statements.ts';

interface Numbered {
  readonly number: number;
}

interface Raw extends Numbered {
  readonly id: string;
  readonly rev: number;
  readonly body: string;
  readonly handles: string | null;
}

interface Watched extends Numbered {
  readonly identity: string;
}

/** Of what is watched in a room, which is in the order of identities and numbers. */
type Entry = readonly [identity: string, number: number];

/** What is left of a walk through a room: the numbers of rows that were met, and the last entry of those; null: the last of all. */
interface Walk {
  readonly numbers: readonly number[];
  readonly after: Entry | null;
}

/** What was found; of a part of a room, and where the next one begins. */
export interface FoundRows {
  readonly rows: readonly Kept[];
  readonly next?: RoomPart | undefined;
}

/** A row ready to be written. */
export interface Draft {
  readonly row: Delegation;
  readonly rev: number;
  readonly before: Kept | null;
  readonly encoded: Encoded;
}

export interface RowsOptions {
  readonly seal: Seal | null;
  readonly onUnreadable?: (id: string, why: Error) => void;
}

/** A part: each row takes some 15 to 60 µs to be judged, in which webhooks wait, and usual rooms are divided little or not at all. */
const PART_ROWS = 32;
/** What is watched in a room is walked along in stretches of so much. */
const STRETCH = 512;
const FROM_THE_START: Entry = ['', 0];

/** Rows in memory at once. */
const NAMED_TOGETHER = 1_000;

/** Of a group of futures that of its leave, which each hand-over of the group names. */
const eventOf = (row: Delegation): EventHash | null => eventHashesOf(row)[0] ?? null;

export class SqliteRows {
  readonly #sql: ReturnType<typeof prepareAll>;
  readonly #options: RowsOptions;
  readonly #recent = new Recent();

  constructor(sql: ReturnType<typeof prepareAll>, options: RowsOptions) {
    this.#sql = sql;
    this.#options = options;
  }

  named(id: DelegationId): Kept | null {
    return this.#recent.named(id) ?? this.#read(this.#sql.named.get(id));
  }

  find(where: Where): FoundRows {
    switch (where.by) {
      case 'id': {
        const found = this.named(where.id);
        return { rows: found?.row.room === where.room ? [found] : [] };
      }
      case 'owner':
        return { rows: this.#ofOwner(where) };
      case 'watched':
        return this.#watching(where);
      case 'room':
        return this.#partOf(where.room, where.part);
      default:
        return where satisfies never;
    }
  }

  #watching({ room, identity, part }: Extract<Where, { by: 'watched' }>): FoundRows {
    const after = part === FIRST_PART ? 0 : Number(part);
    const found = this.#sql.byWatched.all(slotOf(room), room, identity, after, PART_ROWS + 1) as unknown as Numbered[];
    const these = found.slice(0, PART_ROWS);
    return { rows: this.#rows(these), next: found.length > PART_ROWS ? (String(these.at(-1)?.number) as RoomPart) : undefined };
  }

  #allOf(room: RoomName): FoundRows {
    return { rows: this.#rows(this.#sql.byRoom.all(slotOf(room), room)) };
  }

  /** To read a small room as a whole takes half as long. */
  #partOf(room: RoomName, part: RoomPart): FoundRows {
    if (part === FIRST_PART && this.#sql.isBeyond.get(slotOf(room), room, PART_ROWS) === undefined) return this.#allOf(room);
    const { numbers, after } = part === FIRST_PART ? this.#stretch(room, FROM_THE_START) : (JSON.parse(part) as Walk);
    const [these, others] = [numbers.slice(0, PART_ROWS), numbers.slice(PART_ROWS)];
    const rows = this.#rows(this.#sql.stillIn.all(JSON.stringify(these), room));
    const on = others.length > 0 || after === null ? { numbers: others, after } : this.#stretch(room, after);
    return { rows, next: on.numbers.length > 0 ? (JSON.stringify(on) as RoomPart) : undefined };
  }

  /** Whoever is watched under two identities is met twice, and counts once where that is in one stretch. */
  #stretch(room: RoomName, [identity, number]: Entry): Walk {
    const found = this.#sql.watchedIn.all(slotOf(room), room, identity, number, STRETCH) as unknown as Watched[];
    const last = found.at(-1);
    const numbers = [...new Set(found.map((one) => one.number))];
    return { numbers, after: last === undefined || found.length < STRETCH ? null : [last.identity, last.number] };
  }

  #ofOwner({ owner, room, events = [] }: Extract<Where, { by: 'owner' }>): Kept[] {
    const own = this.#rows(this.#sql.byOwner.all(owner, room));
    return [...own, ...events.flatMap((event) => this.#rows(this.#sql.byEvent.all(event, room, owner)))];
  }

  #rows(found: unknown[]): Kept[] {
    return (found as Raw[]).flatMap((raw) => this.#recent.numbered(raw.number) ?? this.#read(raw) ?? []);
  }

  /** Null: not there, or damaged. */
  #read(found: unknown): Kept | null {
    const raw = found as Raw | undefined;
    if (raw === undefined) return null;
    try {
      const { rev, number, handles } = raw;
      return { row: decode(raw, this.#options.seal), rev, number, handles };
    } catch (error) {
      this.#options.onUnreadable?.(raw.id, error as Error);
      return null;
    }
  }

  /** @throws Error on a row that breaks an invariant, before anything was written. */
  draft(row: Delegation, before: Kept | null): Draft {
    return { row, rev: (before?.rev ?? 0) + 1, before, encoded: encode(row, this.#options.seal, before?.handles) };
  }

  write({ row, rev, before, encoded }: Draft): void {
    const { body, handles } = encoded;
    const number = before?.number ?? this.#insert(row, rev, encoded);
    if (row.state.kind === 'ended') {
      if (before !== null) this.#sql.end.run(row.state.kind, row.state.atMs, rev, body, number);
      const slot = slotOf(row.room);
      for (const identity of row.identities) this.#sql.unwatch.run(slot, row.room, identity, number);
      this.#recent.drop(number);
      return;
    }
    if (before !== null) {
      if (handles !== before.handles) this.#sql.reseal.run(handles, number);
      const due = dueAtMs(row.state);
      if (before.row.state.kind === row.state.kind) this.#sql.keep.run(due, rev, body, number);
      else this.#sql.move.run(row.state.kind, due, rev, body, number);
      if (row.identities !== before.row.identities) this.#watch(row, number);
    }
    this.#recent.set({ row, rev, number, handles });
  }

  #insert(row: Delegation, rev: number, { body, handles }: Encoded): number {
    const { id, owner, room, homeserver, state } = row;
    const endedAt = state.kind === 'ended' ? state.atMs : null;
    const when = [dueAtMs(state), endedAt] as const;
    const made = this.#sql.insert.run(id, owner, room, slotOf(room), homeserver, eventOf(row), state.kind, ...when, rev, body, handles);
    const number = Number(made.lastInsertRowid);
    this.#watch(row, number);
    return number;
  }

  #watch({ room, identities }: Delegation, number: number): void {
    const slot = slotOf(room);
    for (const identity of identities) this.#sql.watch.run(slot, room, identity, number);
  }

  /** Of rows from before there was an index of events: who hands one of them over under another name has to be told from somebody else. */
  nameEvents(): void {
    for (let some = this.#unnamed(0); some.length > 0; some = this.#unnamed(some.at(-1)?.number ?? 0)) {
      for (const raw of some) {
        const kept = this.#read(raw);
        if (kept !== null) this.#sql.nameEvent.run(eventOf(kept.row), raw.number);
      }
    }
  }

  #unnamed(after: number): Raw[] {
    return this.#sql.unnamed.all(after, NAMED_TOGETHER) as unknown as Raw[];
  }

  /** Somebody is about to act on it. */
  keepAtHand(kept: Kept): void {
    this.#recent.set(kept);
  }

  /** Forgets ended rows, and returns how many. */
  purge(endedBeforeMs: number, mostEnded: number, limit: number): number {
    const { n } = this.#sql.countEnded.get(mostEnded + limit) as { n: number };
    const old = this.#sql.purgeEnded.all(endedBeforeMs, limit);
    const tooMany = n - mostEnded - old.length;
    if (tooMany > 0) old.push(...this.#sql.purgeOldest.all(Math.min(tooMany, limit - old.length)));
    for (const { number } of old as unknown as readonly Numbered[]) this.#recent.drop(number);
    return old.length;
  }

  /** What was written may not be in the file. */
  forget(): void {
    this.#recent.clear();
  }
}
