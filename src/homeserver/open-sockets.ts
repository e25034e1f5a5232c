// Bounds the sockets to all homeservers together; undici's pools bound those to one origin, and there may be many origins. An attempt
// beyond the bound waits until another socket is closed, as idle ones soon are.
import type { buildConnector } from 'undici';

type Connect = buildConnector.connector;

/** Wraps connectors, all of which share the bound of `most` sockets. */
export function limitSockets(most: number): (connect: Connect) => Connect {
  let open = 0;
  const waiting: (() => void)[] = [];

  function closed(): void {
    open -= 1;
    waiting.shift()?.();
  }

  return (connect) => (target, done) => {
    const begin = (): void => {
      open += 1;
      connect(target, (...connected) => {
        const [failed, socket] = connected;
        if (failed === null) socket.once('close', closed);
        else closed();
        done(...connected);
      });
    };
    if (open < most) begin();
    else waiting.push(begin);
  };
}
