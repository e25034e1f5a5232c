// The world from the generator's side: a thread with the fakes, and what is known of each member.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { allocate, counter, nowMs, type Shared, setCounter, view } from './shared.ts';

export interface World {
  readonly shared: Shared;
  readonly url: string;
  readonly sfuUrl: string;
  readonly port: number;
  /** The homeserver as a client names it to a service that asks it over federation; the same for everybody. */
  readonly serverName: string;
  /** On the SFU, each with an event that was scheduled a moment ago. */
  enter(from: number, to: number): void;
  gone(from: number, to: number): void;
  close(): Promise<void>;
}

export async function startWorld(size: number, rooms: number, delayMs: number, options: { readonly tls: boolean }): Promise<World> {
  const buffers = allocate(size, rooms, delayMs);
  const shared = view(buffers);
  const worker = new Worker(new URL('./world-thread.ts', import.meta.url), {
    workerData: { shared: buffers, tls: options.tls ? certificate() : null, serverName: null },
  });
  const { port, serverName } = await new Promise<{ port: number; serverName: string }>((resolve, reject) => {
    worker.once('message', resolve).once('error', reject);
  });
  worker.on('error', (error) => {
    throw new Error('the world broke, and with it every figure', { cause: error });
  });
  const presence = (from: number, to: number, present: 0 | 1): void => {
    shared.present.fill(present, from, to);
    setCounter(shared, 'epoch', counter(shared, 'epoch') + 1);
  };
  return {
    shared,
    port,
    serverName,
    url: `http://127.0.0.1:${port}`,
    sfuUrl: `ws://127.0.0.1:${port}`,
    enter(from, to) {
      shared.startedAt.fill(nowMs(), from, to);
      presence(from, to, 1);
    },
    gone: (from, to) => presence(from, to, 0),
    async close() {
      await worker.terminate();
    },
  };
}

let made: { key: string; cert: string } | null = null;

/** Self-signed, for this run only. */
function certificate(): { key: string; cert: string } {
  if (made !== null) return made;
  const folder = mkdtempSync(join(tmpdir(), 'lastwill-bench-tls-'));
  const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')];
  const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1'];
  const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1'];
  execFileSync('openssl', ['req', '-x509', ...curve, '-nodes', '-days', '2', '-keyout', key, '-out', cert, ...subject], {
    stdio: 'ignore',
  });
  made = { key: readFileSync(key, 'utf8'), cert: readFileSync(cert, 'utf8') };
  rmSync(folder, { recursive: true });
  return made;
}
