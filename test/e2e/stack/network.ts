// A network of their own for participants: each in a network namespace with one cable (a veth pair) to a bridge where the servers are.
// A cable can be unplugged, or left in its socket with nothing behind it, and participants die as they do in the field: unheard.
import { execFile, spawnSync } from 'node:child_process';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** Why there can be no such network here; undefined: there can. */
export function noNamespaces(): string | undefined {
  if (process.getuid?.() !== 0) return 'network namespaces are made as root only';
  if (spawnSync('ip', ['-V']).status !== 0) return 'there is no "ip" (Debian: apt-get install iproute2)';
  const probe = `lwp${process.pid}`;
  const made = spawnSync('ip', ['netns', 'add', probe], { encoding: 'utf8' });
  if (made.status !== 0) return `a network namespace can't be made here: ${made.stderr.trim()}`;
  spawnSync('ip', ['netns', 'del', probe]);
  return undefined;
}

/** Locally administered. */
const BRIDGE_MAC = '02:00:00:00:00:01';

/** How a network ends: the cable pulled, which the client's system notices at once, or silence, which nobody notices. */
export type Cut = 'unplugged' | 'silent';

export class Cable {
  /** The network namespace at its end. */
  readonly namespace: string;
  readonly #bridge: string;
  readonly #ourEnd: string;

  constructor(namespace: string, bridge: string, ourEnd: string) {
    this.namespace = namespace;
    this.#bridge = bridge;
    this.#ourEnd = ourEnd;
  }

  async cut(how: Cut): Promise<void> {
    await ip('link', 'set', this.#ourEnd, ...(how === 'unplugged' ? ['down'] : ['nomaster']));
  }

  async mend(): Promise<void> {
    await ip('link', 'set', this.#ourEnd, 'up', 'master', this.#bridge);
  }
}

export class Network {
  /** Where servers listen for participants. */
  readonly address: string;
  readonly bridge: string;
  readonly #subnet: string;
  readonly #cables: Cable[] = [];
  /** The address of the bridge is the first. */
  #numbers = 1;

  private constructor(bridge: string, subnet: string) {
    this.bridge = bridge;
    this.#subnet = subnet;
    this.address = `${subnet}.1`;
  }

  static async lay(): Promise<Network> {
    const network = new Network(`lw${process.pid}`, `10.91.${process.pid % 256}`);
    // A run that is cut short must not leave networks behind.
    process.once('exit', () => network.#removeNow());
    // An address of its own: one lent by a cable would let that cable's packets in when it is cut.
    await ip('link', 'add', network.bridge, 'address', BRIDGE_MAC, 'type', 'bridge');
    await ip('address', 'add', `${network.address}/24`, 'dev', network.bridge);
    await ip('link', 'set', network.bridge, 'up');
    return network;
  }

  async cable(): Promise<Cable> {
    // Before anything that waits: others may want one at the same time.
    this.#numbers += 1;
    const number = this.#numbers;
    const namespace = `${this.bridge}n${number}`;
    const ourEnd = `${this.bridge}v${number}`;
    await ip('netns', 'add', namespace);
    const cable = new Cable(namespace, this.bridge, ourEnd);
    this.#cables.push(cable);
    await ip('link', 'add', ourEnd, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', namespace);
    await ip('-n', namespace, 'address', 'add', `${this.#subnet}.${number}/24`, 'dev', 'eth0');
    await ip('-n', namespace, 'link', 'set', 'lo', 'up');
    await ip('-n', namespace, 'link', 'set', 'eth0', 'up');
    await cable.mend();
    return cable;
  }

  #removeNow(): void {
    for (const { namespace } of this.#cables) spawnSync('ip', ['netns', 'del', namespace]);
    spawnSync('ip', ['link', 'del', this.bridge]);
  }

  /** With a namespace goes its end of the cable, and with that ours. */
  async remove(): Promise<void> {
    for (const { namespace } of this.#cables.splice(0)) await ip('netns', 'del', namespace);
    await ip('link', 'del', this.bridge);
  }
}

async function ip(...args: string[]): Promise<void> {
  await run('ip', args);
}
