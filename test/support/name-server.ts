// A name server over UDP on this machine: knows what a test tells it, and is silent where it is told to be.
import { createSocket } from 'node:dgram';
import { Resolver } from 'node:dns/promises';
import { once } from 'node:events';
import { isIPv6 } from 'node:net';

/** The addresses of a name for each family; `silent`: the question is never answered. No such name: NXDOMAIN. */
export type Zone = Readonly<Record<string, { readonly 4?: readonly string[] | 'silent'; readonly 6?: readonly string[] | 'silent' }>>;

export interface NameServer {
  /** `A name` or `AAAA name`, in order. */
  readonly asked: string[];
  /** Asks this server alone, as fast as a test wants to be done. */
  open(): Resolver;
  close(): Promise<void>;
}

const [TYPE_A, TYPE_AAAA] = [1, 28];
const [NO_ERROR, NO_SUCH_NAME] = [0, 3];

export async function startNameServer(zone: Zone): Promise<NameServer> {
  const asked: string[] = [];
  const socket = createSocket('udp4');
  socket.on('message', (query, { port, address }) => {
    const { name, type, question } = questionOf(query);
    asked.push(`${type === TYPE_AAAA ? 'AAAA' : 'A'} ${name}`);
    const entry = zone[name];
    const found = entry?.[type === TYPE_AAAA ? 6 : 4] ?? [];
    if (found === 'silent') return;
    const head = Buffer.from([...query.subarray(0, 2), 0x81, 0x80 | (entry ? NO_ERROR : NO_SUCH_NAME), 0, 1, 0, found.length, 0, 0, 0, 0]);
    socket.send(Buffer.concat([head, question, ...found.map(recordOf)]), port, address);
  });
  socket.bind(0, '127.0.0.1');
  await once(socket, 'listening');
  return {
    asked,
    open: () => {
      const resolver = new Resolver({ timeout: 250, tries: 2 });
      resolver.setServers([`127.0.0.1:${socket.address().port}`]);
      return resolver;
    },
    close: () => new Promise((done) => void socket.close(() => done())),
  };
}

function questionOf(query: Buffer): { name: string; type: number; question: Buffer } {
  const labels: string[] = [];
  let at = 12;
  for (let length = query[at] ?? 0; length > 0; length = query[at] ?? 0) {
    labels.push(query.toString('latin1', at + 1, at + 1 + length));
    at += 1 + length;
  }
  return { name: labels.join('.').toLowerCase(), type: query.readUInt16BE(at + 1), question: query.subarray(12, at + 5) };
}

/** For the name of the question, for five seconds. */
function recordOf(address: string): Buffer {
  const bytes = isIPv6(address)
    ? Buffer.from(
        address
          .split(':')
          .map((group) => group.padStart(4, '0'))
          .join(''),
        'hex',
      )
    : Buffer.from(address.split('.').map(Number));
  return Buffer.concat([Buffer.from([0xc0, 12, 0, bytes.length === 16 ? TYPE_AAAA : TYPE_A, 0, 1, 0, 0, 0, 5, 0, bytes.length]), bytes]);
}
