// One way to Redis after another: a server that is gone without a word (its machine lost power, a network forgot the connection) says so to
// nobody, and the operating system goes on sending to it for a quarter of an hour. A server that has become a replica of another keeps its
// connections, though its name leads elsewhere by now. So another connection is tried beside, and takes over once it can write.
import type { Clock } from '../../clock.ts';

export type Argument = string | Buffer;

export interface Wire {
  send(key: string, args: Argument[]): Promise<unknown>;
  /** To the server that has the key, and no other; where that needs another way. */
  sendThere?(key: string, args: Argument[]): Promise<unknown>;
  /** Another value than before: what is sent goes elsewhere now, or by another connection. */
  way(): unknown;
  close(): void | Promise<void>;
}

export interface Renewable extends Required<Wire> {
  /** Tries another connection, if that has not just been done; it has to count up this key. */
  renew(key: string, isStillNeeded: () => boolean): void;
}

const AGAIN_MS = 1_000;
const LONGEST_MS = 2_000;

/** @throws Error when the first can't be made. */
export async function renewable(make: () => Promise<Wire>, clock: Clock): Promise<Renewable> {
  let current = await make();
  let trying = false;
  let triedAtMs = Number.NEGATIVE_INFINITY;
  let closed = false;

  async function tryAnother(key: string, isStillNeeded: () => boolean): Promise<void> {
    const another = await make();
    const isBetter = await counts(another, key);
    if (!isBetter || closed || !isStillNeeded()) return another.close();
    const before = current;
    current = another;
    await before.close();
  }

  function counts(wire: Wire, key: string): Promise<boolean> {
    const late = Promise.withResolvers<boolean>();
    const stop = clock.after(LONGEST_MS, () => late.resolve(false));
    const done = wire.send(key, ['INCR', key]).then(
      () => true,
      () => false,
    );
    return Promise.race([done, late.promise]).finally(stop);
  }

  return {
    send: (key, args) => current.send(key, args),
    sendThere: (key, args) => (current.sendThere ?? current.send)(key, args),
    way: () => current.way(),
    renew: (key, isStillNeeded) => {
      if (trying || closed || clock.nowMs() - triedAtMs < AGAIN_MS) return;
      trying = true;
      triedAtMs = clock.nowMs();
      tryAnother(key, isStillNeeded)
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
