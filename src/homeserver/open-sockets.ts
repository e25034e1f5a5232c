// How many sockets are open to all homeservers together: a pool bounds those to one of them, and there may be many. Who would open one more
// waits until another is closed, as idle ones soon are.
import type { buildConnector } from 'undici';

type Connect = buildConnector.connector;

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
