// Bounds the sockets to all homeservers together; undici's pools bound those to one origin, and there may be many origins. An attempt
// beyond the bound waits until another socket is closed, as idle ones soon are.
import type { buildConnector } from 'undici';
import type { Clock } from '../clock.ts';

type Connect = buildConnector.connector;

export interface SocketLimits {
  /** How many may be open. */
  readonly most: number;
  /** How many attempts are begun in one turn of the event loop; the others wait for the turns after it. */
  readonly mostATurn: number;
}

/** Wraps connectors, all of which share the bounds. */
export function limitSockets({ most, mostATurn }: SocketLimits, clock: Pick<Clock, 'endOfTurn'>): (connect: Connect) => Connect {
  let open = 0;
  let begun = 0;
  const waiting: (() => void)[] = [];

  function beginWaiting(): void {
    while (open < most && begun < mostATurn) {
      const begin = waiting.shift();
      if (begin === undefined) return;
      begin();
    }
  }

  function count(): void {
    open += 1;
    begun += 1;
    if (begun > 1) return;
    clock.endOfTurn(() => {
      begun = 0;
      beginWaiting();
    });
  }

  function closed(): void {
    open -= 1;
    beginWaiting();
  }

  return (connect) => (target, done) => {
    waiting.push(() => {
      count();
      connect(target, (...connected) => {
        const [failed, socket] = connected;
        if (failed === null) socket.once('close', closed);
        else closed();
        done(...connected);
      });
    });
    beginWaiting();
  };
}
