// One way to Redis after another: a server that is gone without a word (its machine lost power, a network forgot the connection) says so to
// nobody, and the operating system goes on sending to it for a quarter of an hour. A server that has become a replica of another keeps its
// connections, though its name leads elsewhere by now. So another connection is tried beside, and takes over once it can write.
import { type Clock, inTime } from '../../clock.ts';

export type Argument = string | Buffer;

export interface Wire {
  send(key: string, args: Argument[]): Promise<unknown>;
  /** To the server that has the key, and no other; where that needs another way. */
  sendThere?(key: string, args: Argument[]): Promise<unknown>;
  /** Another value than before: what is sent goes elsewhere now, or by another connection. */
  way(): unknown;
  /** What the connection has told of last, null before: why it is not there, if it is not, where who sends is not told by the client. */
  trouble?(): unknown;
  close(): void | Promise<void>;
}

/** What can't be written by the connection that there is. */
export interface Lacking {
  /** To be counted up by another one. */
  readonly key: string;
  isStillSo(): boolean;
}

export interface Renewable extends Required<Wire> {
  /** Tries another connection, if that has not just been done. One thing that it can write is enough: for the others it is no worse. */
  renew(lacking: readonly Lacking[]): void;
}

const AGAIN_MS = 1_000;
const LONGEST_MS = 2_000;

/** @throws Error when the first can't be made. */
export async function renewable(make: () => Promise<Wire>, clock: Clock): Promise<Renewable> {
  let current = await make();
  let trying = false;
  let triedAtMs = Number.NEGATIVE_INFINITY;
  let closed = false;

  async function tryAnother(lacking: readonly Lacking[]): Promise<void> {
    const another = await make();
    const mended = await Promise.any(lacking.map((one) => counts(another, one))).catch(() => null);
    if (mended === null || closed || !mended.isStillSo()) return another.close();
    const before = current;
    current = another;
    await before.close();
  }

  /** @throws Error: it does not, or not in time. */
  function counts(wire: Wire, one: Lacking): Promise<Lacking> {
    const done = wire.send(one.key, ['INCR', one.key]).then(() => one);
    return inTime(clock, LONGEST_MS, done, () => new Error(`no answer within ${LONGEST_MS} ms`));
  }

  return {
    send: (key, args) => current.send(key, args),
    sendThere: (key, args) => (current.sendThere ?? current.send)(key, args),
    way: () => current.way(),
    trouble: () => current.trouble?.() ?? null,
    renew: (lacking) => {
      if (trying || closed || clock.nowMs() - triedAtMs < AGAIN_MS) return;
      trying = true;
      triedAtMs = clock.nowMs();
      tryAnother(lacking)
        .catch(() => {})
        .finally(() => {
          trying = false;
        });
    },
    close: async () => {
      closed = true;
      await current.close();
    },
  };
}
