// One HTTP request and its answer over pooled connections, capped in bytes and time. It answers with values and never throws: an error's
// text could carry the URL, and URLs here carry secrets.
import { gunzipSync } from 'node:zlib';
import type { Dispatcher } from 'undici';
import type { Clock } from '../clock.ts';

export type FailureKind = 'timeout' | 'refused' | 'address' | 'certificate' | 'too_large' | 'garbage' | 'redirects';
export type Reply =
  | {
      readonly kind: 'answered';
      readonly status: number;
      readonly headers: Readonly<Record<string, string>>;
      /** The parsed body; undefined when it is not JSON. */
      readonly json: unknown;
      /** There is no body. */
      readonly empty: boolean;
    }
  /** `reached`: the request was begun to be written, so it may have been carried out all the same. */
  | { readonly kind: 'failed'; readonly reached: boolean; readonly why: FailureKind };

/**
 * Some proxies and firewalls refuse a request without a User-Agent; and whoever is not told otherwise may pack an answer as they like (RFC 9110,
 * section 12.5.3).
 */
export const ALWAYS_SAID = { 'user-agent': 'lastwill', 'accept-encoding': 'identity' } as const;

/** Keeps what comes of an answer's body. */
export interface AnswerBody {
  /** False: it is too much. */
  add(piece: Buffer): boolean;
  readonly bytes: Buffer;
}

/** Hands a request to its pool. */
export type Dispatch = (handler: Dispatcher.DispatchHandler) => void;

export function failed(reached: boolean, why: FailureKind): Reply {
  return { kind: 'failed', reached, why };
}

/**
 * Resolves with the answer, or with why there is none; never rejects. `timeoutMs`: from the call to the end of the answer; 0 or less fails at
 * once. `lost`: called before it resolves where the request went out on a connection that had been kept, and that was closed.
 */
export function exchange(
  dispatch: Dispatch,
  clock: Clock,
  timeoutMs: number,
  body: AnswerBody,
  lost: () => void = () => {},
): Promise<Reply> {
  return new Promise((resolve) => {
    if (timeoutMs <= 0) return resolve(failed(false, 'timeout'));
    const settled = (reply: Reply): void => {
      stopTimer();
      resolve(reply);
    };
    const { handler, end } = createHandler(body, settled, lost);
    // After a stall of this process timers fire before sockets are read: an answer that has arrived meanwhile still counts as in time.
    const stopTimer = clock.after(timeoutMs, () => clock.endOfTurn(() => end('timeout')));
    try {
      dispatch(handler);
    } catch {
      end('refused');
    }
  });
}

/**
 * The same for a request that may be carried out twice: made once more where it was lost with a connection that had been kept. A server or proxy
 * may close one that idles just as a request is on its way to it, and does not read that then (RFC 9112, section 9.3.1).
 */
export async function exchangeRepeatable(dispatch: Dispatch, clock: Clock, timeoutMs: number, emptyBody: () => AnswerBody): Promise<Reply> {
  const endsAtMs = clock.nowMs() + timeoutMs;
  let isLost = false;
  const reply = await exchange(dispatch, clock, timeoutMs, emptyBody(), () => {
    isLost = true;
  });
  if (!isLost) return reply;
  const second = await exchange(dispatch, clock, endsAtMs - clock.nowMs(), emptyBody());
  // Whatever became of the second, the first was written.
  return second.kind === 'failed' ? failed(true, second.why) : second;
}

/** Settles once, whichever of answer, error and timeout comes first. */
function createHandler(
  body: AnswerBody,
  settled: (reply: Reply) => void,
  lost: () => void,
): { handler: Dispatcher.DispatchHandler; end(why: FailureKind): void } {
  let done = false;
  let controller: Dispatcher.DispatchController | null = null;
  let status = 0;
  let headers: Record<string, string> = {};

  const settle = (reply: Reply): void => {
    if (done) return;
    done = true;
    settled(reply);
  };
  const end = (why: FailureKind): void => {
    settle(failed(controller !== null, why));
    controller?.abort(new Error('ended'));
  };
  const answered = (bytes: Buffer): void => {
    const json = parseJson(bytes, headers['content-encoding']);
    settle({ kind: 'answered', status, headers, json, empty: bytes.length === 0 });
  };
  const handler: Dispatcher.DispatchHandler = {
    onRequestStart(started) {
      // Called when a connection is there, just before the request is written to it.
      if (done) started.abort(new Error('ended'));
      else controller = started;
    },
    onResponseStart(_, code, received) {
      status = code;
      headers = firstValues(received);
    },
    onResponseData(_, chunk) {
      if (!body.add(chunk)) end('too_large');
    },
    onResponseEnd: () => answered(body.bytes),
    onResponseError: (_, error) => {
      if (!done && controller !== null && wasKept(error)) lost();
      settle(failed(controller !== null, failureOf(error)));
    },
  };
  return { handler, end };
}

function firstValues(headers: Readonly<Record<string, string | string[] | undefined>>): Record<string, string> {
  const first: Record<string, string> = {};
  for (const [name, value] of Object.entries(headers)) {
    const text = Array.isArray(value) ? value[0] : value;
    if (text !== undefined) first[name.toLowerCase()] = text;
  }
  return first;
}

/** As browsers read it, that is without a byte order mark: some editors begin a .well-known with one. */
const utf8 = new TextDecoder();

/**
 * Some web servers keep a .well-known packed, and give it so to all, whatever they accept. Browsers unpack it, and nobody notices. Not Brotli:
 * fifty bytes of a stranger's would take 30 ms, for it unpacks up to 16 MB before any bound is looked at.
 */
const UNPACK = new Map([
  ['gzip', gunzipSync],
  ['x-gzip', gunzipSync],
]);
const MOST_UNPACKED_BYTES = 64 * 1024;

function parseJson(body: Buffer, encoding: string | undefined): unknown {
  try {
    const unpack = encoding === undefined ? undefined : UNPACK.get(encoding.toLowerCase());
    return JSON.parse(utf8.decode(unpack === undefined ? body : unpack(body, { maxOutputLength: MOST_UNPACKED_BYTES })));
  } catch {
    return undefined;
  }
}

/** Whether it is of a connection that was closed, and on which there had been an answer; of one that was reset nothing more is told. */
function wasKept(error: Error): boolean {
  const { code = '', socket } = error as NodeJS.ErrnoException & { readonly socket?: { readonly bytesRead?: number } };
  return code === 'ECONNRESET' || code === 'EPIPE' || (code === 'UND_ERR_SOCKET' && (socket?.bytesRead ?? 0) > 0);
}

/** In OpenSSL's error codes for a certificate, and in the one that Node adds (ERR_TLS_CERT_ALTNAME_INVALID). */
const NOT_TRUSTED = /CERT|ISSUER|LEAF_SIGNATURE|HOSTNAME_MISMATCH/;

function failureOf(error: Error): FailureKind {
  const code = (error as NodeJS.ErrnoException).code ?? '';
  if (code === 'ADDRESS_REFUSED') return 'address';
  if (NOT_TRUSTED.test(code)) return 'certificate';
  if (code === 'ETIMEDOUT' || /^UND_ERR_.*TIMEOUT$/.test(code)) return 'timeout';
  // What answers is there, and speaks something else than HTTP, or than TLS.
  const isOther = error.name === 'HTTPParserError' || code.startsWith('ERR_SSL_');
  return isOther || code === 'UND_ERR_HEADERS_OVERFLOW' ? 'garbage' : 'refused';
}
