// Redis as larger deployments have it, on loopback: a cluster of three masters, and a master with a replica that sentinels watch.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { freePort, RedisServer } from '../support/redis-server.ts';
import { pause } from './fleet.ts';

export interface Topology {
  readonly url: string;
  readonly servers: readonly RedisServer[];
  end(): Promise<void>;
}

/** `more`: settings of each server; masters come first, then the replicas that each of them has. */
export async function startCluster(more: readonly string[] = [], { masters = 3, replicas = 0 } = {}): Promise<Topology> {
  const args = [...more, '--cluster-enabled', 'yes', '--cluster-node-timeout', '2000', '--appendonly', 'yes'];
  const servers: RedisServer[] = [];
  for (let nth = 0; nth < masters * (1 + replicas); nth += 1) {
    const [port, bus] = [await freePort(), await freePort()];
    servers.push(await RedisServer.start([...args, '--cluster-port', String(bus)], port));
  }
  const addresses = servers.map(({ port }) => `127.0.0.1:${port}`);
  const made = spawnSync('redis-cli', ['--cluster', 'create', ...addresses, '--cluster-replicas', String(replicas), '--cluster-yes'], {
    encoding: 'utf8',
  });
  if (made.status !== 0) throw new Error(`the cluster was not made: ${made.stdout} ${made.stderr}`);
  for (const server of servers) {
    while (!String(await server.ask('CLUSTER', 'INFO')).includes('cluster_state:ok')) await pause(100);
  }
  return { url: `redis+cluster://${addresses.join(',')}`, servers, end: () => endAll(servers) };
}

const QUORUM = 2;

/** With one password for all of them, or with none. */
export async function startSentinels(password: string | null = null): Promise<Topology & { readonly sentinels: readonly ChildProcess[] }> {
  const secret = password === null ? [] : ['--requirepass', password, '--masterauth', password];
  const master = await RedisServer.start(['--appendonly', 'yes', ...secret]);
  const replica = await RedisServer.start(['--appendonly', 'yes', '--replicaof', '127.0.0.1', String(master.port), ...secret]);
  const folder = mkdtempSync(path.join(tmpdir(), 'lastwill-sentinel-'));
  const sentinels = await Promise.all([1, 2, 3].map((nth) => startSentinel(path.join(folder, `${nth}.conf`), master.port, password)));
  const hosts = sentinels.map(({ port }) => `127.0.0.1:${port}`).join(',');
  // Each has to find the replica and the other two before it can fail over.
  await pause(3_000);
  const end = async (): Promise<void> => {
    for (const { child } of sentinels) {
      const gone = once(child, 'exit');
      child.kill('SIGKILL');
      await gone;
    }
    await endAll([master, replica]);
    rmSync(folder, { recursive: true, force: true });
  };
  const url = `redis+sentinel://${password === null ? '' : `:${password}@`}${hosts}/main`;
  return { url, servers: [master, replica], sentinels: sentinels.map(({ child }) => child), end };
}

async function startSentinel(file: string, masterPort: number, password: string | null) {
  const port = await freePort();
  const lines = [`port ${port}`, 'bind 127.0.0.1', `sentinel monitor main 127.0.0.1 ${masterPort} ${QUORUM}`];
  const secret =
    password === null ? [] : [`requirepass ${password}`, `sentinel sentinel-pass ${password}`, `sentinel auth-pass main ${password}`];
  const times = ['sentinel down-after-milliseconds main 1500', 'sentinel failover-timeout main 4000'];
  writeFileSync(file, [...lines, ...times, ...secret, ''].join('\n'));
  const child = spawn('redis-server', [file, '--sentinel'], { stdio: 'ignore' });
  return { port, child };
}

async function endAll(servers: readonly RedisServer[]): Promise<void> {
  for (const server of servers) await server.end();
}
