// Connects to a host that may have several addresses (RFC 8305): the next one is tried when the one before has failed, or has not answered
// for a while, and that one is not given up for it. Node's own way gives each but the last half a second, one after the other: a host that
// is farther away, or whose first packet was lost, is never reached where its last address is dead.
import { isIP, type LookupFunction, type Socket, connect as tcp } from 'node:net';
import type * as undici from 'undici';
import type { Cancel, Clock } from '../clock.ts';
import { buildConnector } from '../library-parts.ts';

export interface DialOptions {
  readonly clock: Pick<Clock, 'after'>;
  /** The addresses of a name. */
  readonly lookup: LookupFunction;
  /** For the connection, and as long again for TLS. */
  readonly timeoutMs: number;
  readonly tls?: { readonly rejectUnauthorized?: boolean; readonly ca?: string };
}

/** RFC 8305, section 8. */
const NEXT_MS = 250;
/** Of one host. Beyond, the oldest attempt is given up for the next. */
const MOST_AT_ONCE = 4;
/**
 * Attempts beside others, of all hosts: a name with many dead addresses may be a stranger's, and must not take our descriptors. Beyond, the next
 * address waits for one of them to end, or for the one before it.
 */
const MOST_BESIDE = 16;
const KEEP_ALIVE_MS = 60_000;

type Dialled = (error: Error | null, socket: Socket | null) => void;

/** The connector of a pool. */
export function createDialler({ clock, lookup, timeoutMs, tls = {} }: DialOptions): undici.buildConnector.connector {
  const secure = buildConnector({ ...tls, timeout: timeoutMs });
  let races = 0;
  let sockets = 0;

  /** Tells of the first address that takes the connection, or of what was wrong with the first that failed. */
  function race(addresses: readonly string[], port: number, done: Dialled): void {
    const waiting = [...addresses];
    const trying = new Set<Socket>();
    let wrong: Error | null = null;
    let cancelNext: Cancel = () => {};
    const cancelEnd = clock.after(timeoutMs, () => end(null));
    races += 1;

    function giveUp(socket: Socket | undefined): void {
      if (socket === undefined) return;
      leave(socket);
      socket.destroy();
    }
    function leave(socket: Socket): boolean {
      if (!trying.delete(socket)) return false;
      sockets -= 1;
      return true;
    }
    function end(connected: Socket | null): void {
      cancelEnd();
      cancelNext();
      races -= 1;
      if (connected !== null) leave(connected);
      for (const socket of trying) giveUp(socket);
      if (connected === null) done(wrong ?? Object.assign(new Error('no address answers'), { code: 'ETIMEDOUT' }), null);
      else done(null, connected);
    }
    function next(): void {
      cancelNext();
      const isFull = trying.size > 0 && sockets - races >= MOST_BESIDE;
      const host = isFull ? undefined : waiting.shift();
      if (host !== undefined) begin(host);
      else if (isFull && waiting.length > 0) cancelNext = clock.after(NEXT_MS, next);
      else if (trying.size === 0) end(null);
    }
    function begin(host: string): void {
      if (trying.size >= MOST_AT_ONCE) giveUp(trying.values().next().value);
      const socket = tcp({ host, port, noDelay: true, keepAlive: true, keepAliveInitialDelay: KEEP_ALIVE_MS });
      trying.add(socket);
      sockets += 1;
      socket.once('connect', () => end(socket));
      socket.on('error', (error) => {
        if (!leave(socket)) return;
        wrong ??= error;
        next();
      });
      if (waiting.length > 0) cancelNext = clock.after(NEXT_MS, next);
    }
    next();
  }

  return (target, done) => {
    const { hostname, protocol } = target;
    const isSecure = protocol === 'https:';
    const dial = (addresses: readonly string[]): void =>
      race(addresses, Number(target.port) || (isSecure ? 443 : 80), (error, socket) => {
        if (socket === null) done(error ?? new Error('no connection'), null);
        else if (isSecure) secure({ ...target, httpSocket: socket }, done);
        else done(null, socket);
      });
    if (isIP(hostname) !== 0) return dial([hostname]);
    lookup(hostname, { all: true }, (error, found) => {
      if (error !== null) done(error, null);
      else dial(byTurns(found as readonly { address: string }[]));
    });
  };
}

/** One of each family after the other, from the first on: a whole family may be dead. */
function byTurns(found: readonly { readonly address: string }[]): readonly string[] {
  const first = isIP(found[0]?.address ?? '');
  const own = found.filter(({ address }) => isIP(address) === first);
  const others = found.filter(({ address }) => isIP(address) !== first);
  return found.flatMap((_, place) => [own[place], others[place]].flatMap((one) => (one === undefined ? [] : [one.address])));
}
