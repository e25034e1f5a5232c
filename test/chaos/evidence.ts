// What a run leaves behind to be judged: who was on the SFU, what the homeserver took, what was out of order. All times are the one
// machine's clock, Unix ms.

/** One session of a participant on the SFU, or an attempt at one, as the SFU's own log tells. */
export interface Session {
  readonly identity: string;
  readonly sid: string;
  readonly fromMs: number;
  /** Infinity: still there. */
  readonly toMs: number;
  /** LiveKit's reason; SFU_KILLED where nobody was left to tell one, ABORTED where it never came to media. */
  readonly reason: string;
  /** When the departure was first passed on to the service; null: its webhook was dropped, or there was none. */
  readonly toldMs: number | null;
}

/** When a session began to signal: long before media, and its webhook, on a busy machine. */
export interface Glimpse {
  readonly identity: string;
  readonly sid: string;
  readonly atMs: number;
}

/** One membership event, with the time at which the homeserver took it. */
export interface Announcement {
  readonly identity: string;
  readonly atMs: number;
  readonly kind: 'here' | 'gone';
  /** Of those that say `here`: which one of the participant's. */
  readonly serial: number;
}

/** A leave was handed over to the service. */
export interface HandOver {
  readonly identity: string;
  readonly serial: number;
  readonly delayId: string;
  /** When the service said that it takes it; null: it did not. */
  readonly takenMs: number | null;
}

/** What the service asked of the homeserver about a delayed event. */
export interface Act {
  readonly delayId: string;
  readonly action: string;
  readonly beganMs: number;
  readonly endedMs: number;
  readonly status: number;
}

export type Part = 'service' | 'SFU' | 'homeserver' | 'machine';
/** While a part was down, stopped, or (the machine) too busy to let anybody run. */
export interface Outage {
  readonly part: Part;
  readonly fromMs: number;
  readonly toMs: number;
}

/** What was done to a participant, or what it did. */
export interface Deed {
  readonly identity: string;
  readonly atMs: number;
  readonly what: string;
  /** Its process was killed, or it said goodbye: whoever comes after that is another one. Null: it stayed, or meant to. */
  readonly ended: 'killed' | 'goodbye' | null;
}

export interface Evidence {
  readonly sessions: readonly Session[];
  readonly glimpses: readonly Glimpse[];
  readonly announcements: readonly Announcement[];
  readonly handOvers: readonly HandOver[];
  readonly acts: readonly Act[];
  readonly outages: readonly Outage[];
  readonly deeds: readonly Deed[];
  readonly endedMs: number;
}

/** The settings that the bounds of the promise are made of, ms. */
export interface Waits {
  readonly left: number;
  readonly lost: number;
  readonly replaced: number;
  readonly sfuDown: number;
  readonly aborted: number;
  readonly missing: number;
  readonly presenceInterval: number;
}
