// A client of LiveKit's RoomService: Twirp with JSON, over pooled connections. LiveKit's own client (livekit-server-sdk) takes several
// times the work for a call (fetch, an asynchronous signature, decoded messages), and drops the path of its URL, though SFUs often live
// behind one (wss://host/livekit/sfu).
import { type Clock, wallSeconds } from '../clock.ts';
import { lookupWith, type Resolve } from '../dns/resolve.ts';
import { Pool } from '../library-parts.ts';
import { LruMap } from '../lru-map.ts';
import { createDialler } from '../outgoing/dial.ts';
import { ALWAYS_SAID, exchangeRepeatable, type Reply } from '../outgoing/exchange.ts';
import { type Renewing, renewing } from '../outgoing/renewing.ts';
import { hmacKey, signJwt } from './jwt.ts';
import type { ApiKey } from './keys.ts';
import { ListBody } from './list-body.ts';
import { isMessage, type Message } from './protojson.ts';

/** What the token of a call allows (LiveKit's VideoGrant); with `room`, only in that room. */
export interface Grant {
  readonly room?: string;
  readonly roomAdmin?: true;
  readonly roomCreate?: true;
  readonly roomList?: true;
}

export type Called =
  | { readonly kind: 'answered'; readonly message: Message }
  /** There is no such room or participant. */
  | { readonly kind: 'not_found' }
  /** The SFU has asked its nodes, and none has the room or participant. */
  | { readonly kind: 'nowhere' }
  | { readonly kind: 'failed'; readonly why: string };

export interface RoomService {
  /** `method`: of livekit.RoomService. Never rejects; answers within five seconds. */
  call(method: string, grant: Grant, request: object): Promise<Called>;
}

/** An SFU that has not answered by then is away; its answer would also be too old to act upon. */
const TIMEOUT_MS = 5_000;
/** For how long a call's token is valid. */
const VALID_SECONDS = 600;
/** For how long a token is used again: to sign one takes more than half of the time that a call takes. */
const REUSED_SECONDS = 240;
const MOST_REUSED = 1_000;
/** Of what is kept of an answer: the list of a large room. */
const MOST_BYTES = 64 * 1024 * 1024;

export type SfuPool = Pick<Renewing, 'dispatch'>;

export interface SfuPoolOptions {
  readonly clock: Pick<Clock, 'nowMs' | 'after'>;
  readonly resolve: Resolve;
  readonly connections: number;
  /** Any certificate of the SFU will do. */
  readonly insecureTls: boolean;
}

/** Connections to the SFU, to be shared by everything that calls it. */
export function createSfuPool(apiUrl: string, { clock, resolve, connections, insecureTls }: SfuPoolOptions): SfuPool {
  const { origin } = new URL(apiUrl);
  // Else Node decides, which may be told by NODE_TLS_REJECT_UNAUTHORIZED.
  const tls = insecureTls ? { rejectUnauthorized: false } : {};
  const connect = createDialler({ clock, lookup: lookupWith(resolve), timeoutMs: TIMEOUT_MS, tls });
  return renewing(clock, () => new Pool(origin, { connections, connect }));
}

export interface RoomServiceDeps {
  readonly clock: Clock;
  readonly pool: SfuPool;
  /** Told of each call that came to nothing. */
  readonly onFailed: (why: string) => void;
}

export function createRoomService(apiUrl: string, { key, secret }: ApiKey, { clock, pool, onFailed }: RoomServiceDeps): RoomService {
  const { pathname } = new URL(apiUrl);
  const prefix = `${pathname.replace(/\/+$/, '')}/twirp/livekit.RoomService/`;
  const signing = hmacKey(secret);
  const recent = new LruMap<string, { readonly madeSeconds: number; readonly authorization: string }>(MOST_REUSED);

  function authorizationFor(video: Grant): string {
    const nowSeconds = wallSeconds();
    const name = JSON.stringify(video);
    const known = recent.get(name);
    if (known !== undefined && nowSeconds < known.madeSeconds + REUSED_SECONDS) return known.authorization;
    // Without `nbf`: an SFU whose clock is over a minute behind ours would refuse it, and could not be asked who is there.
    const authorization = `Bearer ${signJwt({ iss: key, exp: nowSeconds + VALID_SECONDS, video }, signing)}`;
    recent.set(name, { madeSeconds: nowSeconds, authorization });
    return authorization;
  }

  return {
    call: async (method, video, request) => {
      const headers = { authorization: authorizationFor(video), 'content-type': 'application/json', ...ALWAYS_SAID };
      // None of its methods does more the second time.
      const options = { path: prefix + method, method: 'POST', headers, body: JSON.stringify(request) } as const;
      const reply = await exchangeRepeatable(
        (handler) => pool.dispatch(options, handler),
        clock,
        TIMEOUT_MS,
        () => new ListBody(MOST_BYTES),
      );
      const called = read(reply, video);
      if (called.kind === 'failed') onFailed(called.why);
      return called;
    },
  };
}

/** LiveKit's error when none of its nodes answers for the room or participant of a call, which it finds out after three seconds. */
const NO_NODE_HAS_IT = /no response from servers/;

/** An answer without JSON is the page of a proxy, and a failure whatever its status. */
function read(reply: Reply, { room }: Grant): Called {
  if (reply.kind === 'failed') return { kind: 'failed', why: reply.why };
  const { status, json } = reply;
  if (!isMessage(json)) return { kind: 'failed', why: `status ${status}, and no JSON` };
  if (status === 200) return { kind: 'answered', message: json };
  if (status === 404 && json.code === 'not_found') return { kind: 'not_found' };
  const isNowhere = room !== undefined && json.code === 'unavailable' && NO_NODE_HAS_IT.test(String(json.msg));
  return status === 503 && isNowhere ? { kind: 'nowhere' } : { kind: 'failed', why: `status ${status}` };
}
