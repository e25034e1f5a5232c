// What a page is told in its address, and what it reports on `window.report`. Types only: both sides import it.

export interface Credentials {
  readonly baseUrl: string;
  readonly userId: string;
  readonly deviceId: string;
  readonly accessToken: string;
}

/**
 * How the member announces itself: `legacy` is Element Call's compatibility mode (state events, /sfu/get, the identity in the
 * clear), `matrix2` its successor (sticky events, /get_token, a new member id and a hashed identity each time).
 */
export type Mode = 'legacy' | 'matrix2';

/** Of a member page, in the fragment, so that a reload joins again by itself. */
export interface MemberOrder {
  readonly credentials: Credentials;
  readonly room: string;
  readonly serviceUrl: string;
  /** Who is asked for tokens and takes the delegation: the service itself, or the homeserver (MSC4195 through MSC4512). */
  readonly by: 'service' | 'homeserver';
  /** Which SFU is meant, where the homeserver is asked. */
  readonly sfuUrl: string;
  readonly mode: Mode;
  /** A remote user may not delegate, and keeps to a short timer of its own. */
  readonly delegate: boolean;
}

export interface HostOrder {
  readonly credentials: Credentials;
  readonly room: string;
  readonly elementCallUrl: string;
}

export interface Delay {
  readonly delayId: string;
  readonly delayMs: number;
}

export interface HostReport {
  /** What the widget asked of its client beside Matrix: `ready`, `io.element.join`, `im.vector.hangup` … */
  readonly steps: string[];
  readonly failures: string[];
  readonly delays: Delay[];
}

/** Of a member page. */
export interface Report {
  /** What happened so far, in order: `joined`, `announced`, `delegated …`, `sfu …`. */
  readonly steps: string[];
  readonly failures: string[];
  identity: string;
  sfuRoom: string;
  memberId: string;
  /** Of the newest token for the SFU: its video grant. */
  grant: Readonly<Record<string, unknown>>;
  /** Delayed leaves scheduled so far. */
  readonly delays: Delay[];
  /** Whether the page hears and is heard by the SFU at this moment. */
  connected: boolean;
}
