// The way to Redis, be it one server, the master that sentinels name, or a cluster: one script in one shard, answered or refused in
// bounded time. What is sent in one turn of the event loop goes out together.
import { ClientOfflineError, createClient, createCluster, createSentinel, RESP_TYPES } from '@redis/client';
import { type Clock, inTime } from '../../clock.ts';
import { type RedisAddress, type RedisPlace, tlsOf } from '../../redis-url.ts';
import { createAnswers } from './answers.ts';
import { beatKeyOf, prefixOf } from './keys.ts';
import type { Script } from './scripts.ts';
import { type Argument, renewable, type Wire } from './wire.ts';

/** Runs a script in a shard; its first key is named without the shard's prefix. */
export type RedisRun = (script: Script, shard: number, key: string, args: readonly Argument[]) => Promise<readonly Buffer[]>;

export interface RedisConnection {
  /** Runs a script in a shard; its first key is named without the shard's prefix. Bulk replies only. @throws Error: unanswered, or refused. */
  run(script: Script, shard: number, key: string, time: string, args: readonly Argument[]): Promise<readonly Buffer[]>;
  /** A command to the server that has the shard. */
  command(shard: number, args: readonly Argument[]): Promise<unknown>;
  /** How many Redis replicas have what was sent to the shard until now, once they are so many or the time is over. */
  replicas(shard: number, wanted: number, withinMs: number): Promise<number>;
  /** Another value than before: what is sent goes elsewhere now, or by another connection. */
  way(): unknown;
  /** How many scripts had to be sent once more, behind what was sent after them, because a server did not know them yet. */
  readonly taught: number;
  close(): Promise<void>;
}

const CONNECT_MS = 5_000;
const SENTINEL_MS = 1_500;
/** How often a lost connection is tried again; a server that is back is used within this. */
const AGAIN_MS = 250;
/** Bytes as they are; and no timer of the client's own for each call, which would count the time that it waits here to be sent. */
const CALL = { typeMapping: { [RESP_TYPES.BLOB_STRING]: Buffer, [RESP_TYPES.SIMPLE_STRING]: Buffer }, timeout: 0 };

/**
 * A shard that moves to another master of the cluster does so key by key, and a script would find some of its keys on neither of the two: as if
 * nobody had been handed over. Neither runs a script of two keys of which it has not both; so all are refused until the move is over.
 */
const NEVER_THERE = 'nothing';

/** @throws Error when it is not reachable now. */
export async function connectRedis(place: RedisPlace, clock: Clock): Promise<RedisConnection> {
  const wire = await renewable(() => ({ single: toServer, sentinel: toMaster, cluster: toCluster })[place.kind](place, clock), clock);
  const answers = createAnswers(clock, (shards) =>
    wire.renew(shards.map((shard) => ({ key: beatKeyOf(shard), isStillSo: () => answers.isSilent(shard) }))),
  );
  let taught = 0;
  const ask = async (shard: number, key: string, args: Argument[], send = wire.send): Promise<unknown> => {
    try {
      return await answers.within(place.kind === 'cluster' ? shard : 0, () => send(key, args));
    } catch (error) {
      // Its name may lead to the server that has taken its place.
      if (/^(READONLY|MASTERDOWN)/.test((error as Error).message)) wire.renew([{ key: beatKeyOf(shard), isStillSo: () => true }]);
      // An operator is told why there is no connection: of a wrong password as well the client says no more to who sends.
      throw error instanceof ClientOfflineError ? (wire.trouble() ?? error) : error;
    }
  };
  const evaluate = (
    shard: number,
    how: 'EVALSHA' | 'EVAL',
    what: string,
    keys: readonly [string, ...string[]],
    args: readonly Argument[],
  ) => ask(shard, keys[0], [how, what, String(keys.length), ...keys, ...args]);
  return {
    run: async (script, shard, key, time, args) => {
      const prefix = prefixOf(shard);
      const all = [prefix, time, ...args];
      const keys = place.kind === 'cluster' ? ([prefix + key, prefix + NEVER_THERE] as const) : ([prefix + key] as const);
      const reply = await evaluate(shard, 'EVALSHA', script.sha, keys, all).catch((error: Error) => {
        // A server that was restarted, or another than before, learns the script from the call.
        if (!error.message.startsWith('NOSCRIPT')) throw error;
        taught += 1;
        return evaluate(shard, 'EVAL', script.text, keys, all);
      });
      return reply as Buffer[];
    },
    command: (shard, args) => ask(shard, `${prefixOf(shard)}epoch`, [...args]),
    replicas: async (shard, wanted, withinMs) =>
      Number(await ask(shard, `${prefixOf(shard)}epoch`, ['WAIT', String(wanted), String(withinMs)], wire.sendThere)),
    way: () => wire.way(),
    get taught() {
      return taught;
    },
    close: async () => {
      answers.stop();
      await wire.close();
    },
  };
}

function socketOf(place: RedisPlace) {
  return { connectTimeout: CONNECT_MS, reconnectStrategy: () => AGAIN_MS, keepAlive: true, ...tlsOf(place) };
}

function accountOf({ username, password }: RedisPlace) {
  return { ...(username === null ? {} : { username }), ...(password === null ? {} : { password }) };
}

async function toServer(place: RedisPlace, clock: Clock): Promise<Wire> {
  const [address] = place.addresses;
  let began = false;
  // The first time, why it fails is told at once; later it is tried again for ever.
  const reconnectStrategy = (_tries: number, why: Error) => (began ? AGAIN_MS : why);
  const client = createClient({
    ...accountOf(place),
    socket: {
      ...(place.socket === null ? { ...socketOf(place), ...address } : { path: place.socket, connectTimeout: CONNECT_MS }),
      reconnectStrategy,
    },
    database: place.database,
    // What can't be sent now is refused now: a queue would hold promises that nobody made.
    disableOfflineQueue: true,
  });
  let way = {};
  let trouble: unknown = null;
  // Without a listener an error between calls would end the process; the calls themselves reject.
  client.on('error', (error) => {
    way = {};
    trouble = error;
  });
  await started(client.connect(), clock, () => client.destroy());
  began = true;
  return { send: (_key, args) => client.sendCommand(args, CALL), way: () => way, trouble: () => trouble, close: () => client.destroy() };
}

/**
 * The client asks one sentinel after the other, and waits for each: so those that say nothing come last. They may be as open as they come, and
 * then refuse a password, or have the one of their master.
 */
async function sentinelsOf(place: RedisPlace, clock: Clock): Promise<{ addresses: RedisAddress[]; account: ReturnType<typeof accountOf> }> {
  const found = await Promise.all(place.addresses.map(async (address) => ({ address, says: await saysOf(address, place, clock) })));
  const [heard, silent] = [found.filter(({ says }) => says !== 'silent'), found.filter(({ says }) => says === 'silent')];
  return { addresses: [...heard, ...silent].map(({ address }) => address), account: heard[0]?.says === 'closed' ? accountOf(place) : {} };
}

async function saysOf(address: RedisAddress, place: RedisPlace, clock: Clock): Promise<'open' | 'closed' | 'silent'> {
  const client = createClient({ socket: { ...socketOf(place), ...address, reconnectStrategy: false }, disableOfflineQueue: true });
  client.on('error', () => {});
  const asked = client.connect().then(() => client.ping());
  try {
    await connected(asked, clock, SENTINEL_MS);
    return 'open';
  } catch (error) {
    return /NOAUTH/.test(String(error)) ? 'closed' : 'silent';
  } finally {
    client.destroy();
  }
}

async function toMaster(place: RedisPlace, clock: Clock): Promise<Wire> {
  const { addresses, account } = await sentinelsOf(place, clock);
  const sentinel = createSentinel({
    name: place.master,
    sentinelRootNodes: addresses,
    nodeClientOptions: { ...accountOf(place), socket: { ...socketOf(place), reconnectStrategy: false }, database: place.database },
    sentinelClientOptions: { ...account, socket: { ...socketOf(place), reconnectStrategy: false } },
    scanInterval: 1_000,
    maxCommandRediscovers: 2,
    commandOptions: CALL,
  });
  sentinel.on('error', () => {});
  let way = {};
  // Also the same one by another connection: the client puts what is under way once more there.
  sentinel.on('topology-change', ({ type }) => {
    if (type === 'MASTER_CHANGE') way = {};
  });
  await started(sentinel.connect(), clock, () => void sentinel.destroy().catch(() => {}));
  return {
    send: (_key, args) => sentinel.sendCommand(false, args, CALL),
    way: () => way,
    close: () => sentinel.destroy(),
  };
}

async function toCluster(place: RedisPlace, clock: Clock): Promise<Wire> {
  const cluster = createCluster({
    rootNodes: place.addresses.map(({ host, port }) => ({ socket: { host, port } })),
    defaults: { ...accountOf(place), socket: socketOf(place), disableOfflineQueue: true },
    minimizeConnections: true,
  });
  let trouble: unknown = null;
  const told = (error: unknown): void => {
    trouble = error;
  };
  cluster.on('error', told).on('node-error', told);
  await started(cluster.connect(), clock, () => cluster.destroy());
  return {
    send: (key, args) => cluster.sendCommand(key, false, args, CALL),
    // The client would ask all masters how many replicas they have, and answer with the fewest.
    sendThere: async (key, args) => (await cluster.multi(key).addCommand(key, false, args).execAsPipeline())[0],
    // Made anew with each look at who has what.
    way: () => cluster.masters,
    trouble: () => trouble,
    close: () => cluster.destroy(),
  };
}

/** The first connection is not waited for for ever. */
async function started(connecting: Promise<unknown>, clock: Clock, giveUp: () => void): Promise<void> {
  try {
    await connected(connecting, clock, CONNECT_MS);
  } catch (error) {
    giveUp();
    throw error;
  }
}

function connected(connecting: Promise<unknown>, clock: Clock, mostMs: number): Promise<unknown> {
  return inTime(clock, mostMs, connecting, () => new Error(`no connection within ${mostMs} ms`));
}
