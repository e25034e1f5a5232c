// Loaded by main.ts, it runs: a command, if there are arguments; else the service, wired and closed here: configuration → parts → listen →
// signals → close. Nothing here decides anything about a delegation.
import { readFileSync, writeFileSync } from 'node:fs';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createBehindHomeserver, createHomeOf } from './behind-homeserver.ts';
import { type Cancel, type Clock, systemClock, systemRandom } from './clock.ts';
import { type Config, readConfig } from './config/config.ts';
import { newRegistration } from './config/new-registration.ts';
import { helpText, NO_SUCH_ARGUMENT } from './config/settings.ts';
import { createResolve } from './dns/choose-resolver.ts';
import type { Resolve } from './dns/resolve.ts';
import { createAlarms } from './engine/alarms.ts';
import { createEngine } from './engine/engine.ts';
import { createSfuAlarm } from './engine/sfu-alarm.ts';
import { MOST_AT_ONCE } from './engine/width.ts';
import { bareHost } from './homeserver/address.ts';
import { createDelayedEvents, type DelayedEvents } from './homeserver/delayed-events.ts';
import { createDiscovery } from './homeserver/discovery.ts';
import { createFederation } from './homeserver/federation.ts';
import type { Home } from './homeserver/home.ts';
import { serverOf } from './homeserver/names.ts';
import { createOpenId, type OpenId, type OpenIdDeps } from './homeserver/openid.ts';
import { createOpenIdLimit } from './homeserver/openid-limit.ts';
import { createOutages } from './homeserver/outages.ts';
import { createOutbound, type Outbound } from './homeserver/outbound.ts';
import { createServed, type Served } from './homeserver/served.ts';
import { createApp } from './http/app.ts';
import { listenAt } from './http/listen.ts';
import type { MatrixRtc } from './http/matrixrtc.ts';
import { createWebServer } from './http/server.ts';
import { knownSessions } from './known-sessions.ts';
import { Registry } from './library-parts.ts';
import { createLogger } from './log.ts';
import { createMetrics } from './metrics.ts';
import { onceAMinute } from './once-a-minute.ts';
import { type Connections, shareConnections } from './process/descriptors.ts';
import { collectAll, keepSmall } from './process/memory.ts';
import { goFirst } from './process/priority.ts';
import { watchDisk } from './process/slow-disk.ts';
import { watchStandstill } from './process/standstill.ts';
import { faultLines, startupLines } from './process/startup-report.ts';
import { createStdout, writerTo } from './process/stdout.ts';
import { onStopSignal } from './process/stop-signals.ts';
import { type ApiKey, createKeys } from './sfu/keys.ts';
import { createRoomCreation } from './sfu/room-creation.ts';
import { createSfuPool, type RoomServiceDeps } from './sfu/room-service.ts';
import { createRooms } from './sfu/rooms.ts';
import { createTokens } from './sfu/tokens.ts';
import type { Attendance } from './store/attendance.ts';
import { createSeal } from './store/seal.ts';
import type { Sightings } from './store/sightings.ts';
import { sqliteFile } from './store/sqlite/file.ts';
import { openSqliteStore } from './store/sqlite/sqlite.ts';
import { makeFolder } from './store/sqlite/unusable.ts';
import type { Store } from './store/store.ts';
import { type TakeOverDeps, takeOver } from './takeover/take-over.ts';
import { VERSION } from './version.ts';

/** The time from a stop signal to the exit, at most; orchestrators usually kill after 30 s. */
const GRACE_MS = 10_000;
/** The last part of it, in which answers that are ready reach their callers. */
const LAST_ANSWERS_MS = 1_000;
/**
 * How long the start waits for the address of our own homeserver. Until it is known some calls go without the as_token, are refused, and
 * repeated.
 */
const FIRST_LOOK_MS = 1_000;
/** Each takes half a millisecond of ours or more, for TLS, and restarts that come due meanwhile wait for the end of the turn. */
const STRANGERS_CONNECTS_A_TURN = 4;
const EXIT_CONFIG = 2;
/** What another start may find mended: the store, the address to listen on. */
const EXIT_AGAIN = 1;
const STDOUT = 1;

if (process.argv.length > 2) await runCommand(process.argv.slice(2));
// Nothing has been promised yet, and nothing is open.
onStopSignal(leave);
const read = readConfig(process.env, (path) => readFileSync(path, 'utf8'));
if (read.kind === 'faults') {
  process.stderr.write(`${faultLines(read.faults, read.notes).join('\n')}\n`);
  process.exit(EXIT_CONFIG);
}
const registry = new Registry();
const metrics = createMetrics(registry, { homeservers: read.config.homeservers });
const log = createLogger(read.config.logLevel, createStdout({ onLost: metrics.lostLines, write: writerTo(process.stdout) }));
const systemTime = systemClock((err) => log.error({ err }, 'what a timer was to do has failed'));
await run(read.config, read.notes);

/** `npm run registration`, `npm run store`, `--help`: does what the arguments ask for, and exits. */
async function runCommand(args: readonly string[]): Promise<never> {
  const [command, ...rest] = args;
  if (args.includes('--help') || args.includes('-h')) return exitWith(0, `${helpText()}\n`);
  if (command === 'registration') {
    const [serverName = '', proxyUrl = ''] = rest;
    const usage = 'Usage: npm run --silent registration -- <server name> <URL of lastwill for the homeserver>\n';
    const made = newRegistration(serverName, proxyUrl, systemRandom());
    return made === null ? exitWith(EXIT_CONFIG, usage) : exitWith(0, made);
  }
  if (command === 'store') {
    const { COPY_USAGE, runCopy } = await import('./store-copy.ts');
    const done = await runCopy(rest, process.env).catch((error: Error) => exitWith(EXIT_AGAIN, `${error.message}\n`));
    return done === null ? exitWith(EXIT_CONFIG, COPY_USAGE) : exitWith(0, done);
  }
  return exitWith(EXIT_CONFIG, `${NO_SUCH_ARGUMENT}\n`);
}

/**
 * What went wrong goes to stderr: stdout is usually redirected to the file that is to be made. That may have no room, and nobody would notice
 * before it is needed.
 */
function exitWith(code: number, text: string): never {
  if (code === 0) {
    try {
      // By the descriptor: its stream would tell of a failure only after the exit, and of a part that was written never.
      writeFileSync(STDOUT, text);
    } catch (error) {
      return exitWith(EXIT_AGAIN, `what was to be printed could not be written: ${(error as Error).message}\n`);
    }
  } else process.stderr.write(text);
  process.exit(code);
}

async function run(config: Config, notes: readonly string[]): Promise<void> {
  goFirst();
  // A stop signal that came while all of this was loaded is acted upon here, before the store is opened and perhaps migrated.
  await new Promise<void>((turn) => systemTime.endOfTurn(turn));
  const { store, sightings, clock } = await openStore(config);
  let open = true;
  // From now on a signal must not end the process at once: what has been opened is closed in order, once all of it is there.
  onStopSignal(() => {
    open = false;
  });
  const served = createServed(config.homeservers);
  const { addresses } = served;
  const { insecureTls } = config.homeservers;
  const sfuHost = bareHost(new URL(config.livekit.apiUrl).hostname);
  const resolve = createResolve({ clock: systemTime, isOperators: (host) => host === sfuHost || served.isNamed(host) });
  const connections = shareConnections();
  const outboundOf = { clock, addresses, insecureTls, resolve };
  const outbound = createOutbound({ ...outboundOf, sockets: connections.lookUps });
  const toStrangers = createOutbound({ ...outboundOf, sockets: connections.strangersLookUps, connectsATurn: STRANGERS_CONNECTS_A_TURN });
  const sfu: RoomServiceDeps = {
    clock: systemTime,
    pool: createSfuPool(config.livekit.apiUrl, { clock: systemTime, resolve, connections: connections.sfu, insecureTls }),
    onFailed: createSfuAlarm({ clock: systemTime, log }),
  };
  const discovery = createDiscovery({ clock, served, outbound });
  const stopWarming = discovery.warm();
  const [signingKey] = config.livekit.keys;
  const home = createHomeOf(config, { clock, discovery, log });
  await Promise.race([home?.resolve(), new Promise<void>((done) => systemTime.after(FIRST_LOOK_MS, done))]);
  const delayedEvents = createClient(config, { home, served, resolve, connections });
  const rooms = createRooms(config.livekit.apiUrl, signingKey, sfu, (room) => knownSessions(store, room));
  const engine = createEngine({
    ...{ store, delayedEvents, clock, metrics, log },
    rooms,
    random: systemRandom(),
    policy: config.policy,
    mostAtOnce: Math.min(MOST_AT_ONCE, connections.delayedEvents),
    ...(sightings === undefined ? {} : { sightings }),
  });

  const stopTakingOver = await takeOverJobs(config, { engine, served, discovery, clock, log, isOpen: () => open });

  const limit = createOpenIdLimit(connections.incoming / 2, systemTime);
  const matrixRtc = createMatrixRtc(config, { served, outbound, strangers: { outbound: toStrangers, limit }, sfu, signingKey });
  const behind = createBehindHomeserver(config, {
    rooms,
    ...{ home, attendance: store, outbound, sfu, matrixRtc },
    ...{ signingKey, clock, metrics, log },
  });
  const stopWatching = home?.watch();
  const app = createApp({
    ...{ engine, served, discovery, clock, metrics, registry, log },
    keys: createKeys(config.livekit.keys),
    matrixRtc,
    told: rooms.told,
    ...(behind === null ? {} : { proxied: behind.proxied }),
    isOpen: () => open,
  });
  const server = createWebServer(app.listener, systemTime);
  let asked = 0;
  // GET requests do not count: probes and scrapes come every few seconds, for ever.
  server.on('request', ({ method }) => {
    if (method === 'POST') asked += 1;
  });
  const stopKeeping = keepSmall({ clock: systemTime, asked: () => asked, rssBytes: () => process.memoryUsage.rss(), collect: collectAll });
  const stopWatchingOurselves = watchStandstill({ clock: systemTime, log });
  server.on('listening', () => {
    if (!open) return;
    engine.start();
    behind?.departures?.start();
  });
  if (open) listen(server, config, notes, connections);

  let stopping: Promise<void> | null = null;
  const stop = (signal: string): Promise<void> => {
    stopping ??= (async () => {
      open = false;
      log.info({ signal }, 'draining');
      stopWarming();
      stopTakingOver();
      stopKeeping();
      stopWatchingOurselves();
      stopWatching?.();
      // At once, though the drain may take seconds: who can not connect comes again or goes to another replica, and web clients take a 503
      // for the last word.
      const answered = closed(server);
      const graceMs = GRACE_MS - LAST_ANSWERS_MS;
      await Promise.all([engine.drain(graceMs, () => answered), behind?.departures?.stop(graceMs)]);
      await Promise.race([answered, new Promise<void>((resolve) => systemTime.after(LAST_ANSWERS_MS, resolve))]);
      await Promise.allSettled([delayedEvents.close(), outbound.close(), toStrangers.close()]);
      await store.close();
      log.info({}, 'stopped');
      leave();
    })();
    return stopping;
  };
  onStopSignal((signal) => void stop(signal));
}

/**
 * Exits with 0, whatever the system's resolver waits for: Node waits at its exit for the threads that ask it, ten seconds where name servers
 * say nothing. Then a program that does nothing takes our place.
 */
function leave(): never {
  if (process.getActiveResourcesInfo().includes('GetAddrInfoReqWrap')) {
    process.emit('exit', 0);
    try {
      process.execve?.(process.execPath, [process.execPath, '--eval', ''], {});
    } catch {
      // Then it takes as long as they do.
    }
  }
  process.exit(0);
}

/** Exits with EXIT_AGAIN if the address is taken, or not there yet (at boot). */
function listen(server: Server, config: Config, notes: readonly string[], { incoming }: Connections): void {
  const { host, port } = config.bind;
  const mayTell = onceAMinute(systemTime);
  server.maxConnections = incoming;
  server.on('drop', () => {
    if (mayTell()) log.warn({ most: server.maxConnections }, 'connections are closed or turned away: as many as may be are open');
  });
  server.on('error', (err) => {
    if (server.listening) return log.error({ err }, 'the server told of an error');
    process.stderr.write(`lastwill can not listen on ${host}:${port}: ${err.message}\n`);
    process.exit(EXIT_AGAIN);
  });
  server.prependListener('listening', () => {
    const address = server.address() as AddressInfo;
    if (config.mode === 'development') {
      const actual: Config = { ...config, bind: { host, port: address.port } };
      process.stderr.write(`${startupLines(actual, notes).join('\n')}\n`);
    } else for (const note of notes) log.warn({}, note);
    log.info({ version: VERSION, address: address.address, port: address.port }, 'listening');
  });
  listenAt(server, config.bind);
}

/** Stops listening, and resolves when the last request has been answered; idle connections are closed at once. */
function closed(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    if ('closeIdleConnections' in server) server.closeIdleConnections();
  });
}

async function openStore(config: Config): Promise<{ store: Store & Attendance; sightings?: Sightings; clock: Clock }> {
  const clock = systemTime;
  const synced = watchDisk({ clock: systemTime, log });
  try {
    if (config.redis !== null) {
      const { openSharedStore } = await import('./shared-store.ts');
      return await openSharedStore(config, config.redis, { clock, random: systemRandom(), log, metrics });
    }
    makeFolder(config.dataDir);
    const store = openSqliteStore({
      path: sqliteFile(config.dataDir),
      clock,
      seal: config.storeKey === null ? null : createSeal(config.storeKey),
      onCommit: (ok, updates, tookMs) => metrics.storeCommit(ok ? 'ok' : 'failed', tookMs, updates),
      onSync: (ok, tookMs) => {
        metrics.storeSync(ok ? 'ok' : 'failed', tookMs);
        synced(tookMs);
      },
      onUnreadable: (delegation, err) => log.error({ delegation, err }, 'a stored delegation can not be read; it is kept and left alone'),
    });
    return { store, clock };
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n`);
    return process.exit(EXIT_AGAIN);
  }
}

interface MatrixRtcDeps {
  readonly served: Served;
  readonly outbound: Outbound;
  readonly strangers: Pick<OpenIdDeps, 'outbound' | 'limit'>;
  readonly sfu: RoomServiceDeps;
  readonly signingKey: ApiKey;
}

function createMatrixRtc(config: Config, { served, outbound, strangers, sfu, signingKey }: MatrixRtcDeps): MatrixRtc {
  const { fullAccess } = config.homeservers;
  const names = new Set(fullAccess.names);
  // Apart in all that there is a bound on: sockets, and what is remembered.
  const openIdBy = (way: Pick<OpenIdDeps, 'outbound' | 'limit'>): OpenId => {
    const common = { clock: systemTime, ...way };
    return createOpenId({
      ...common,
      federation: createFederation({ ...common, random: systemRandom(), addressesOf: served.addressesOf }),
    });
  };
  const [ofListed, ofStrangers] = [openIdBy({ outbound, limit: null }), openIdBy(strangers)];
  return {
    grants: { ...config.grants, url: config.livekit.url, hasFullAccess: (name) => fullAccess.all || names.has(name) },
    openId: { check: (token) => (served.listed.includes(token.serverName) ? ofListed : ofStrangers).check(token) },
    tokens: createTokens(signingKey),
    roomCreation: createRoomCreation(config.livekit.apiUrl, signingKey, sfu),
  };
}

/**
 * Takes the jobs of an lk-jwt-service over from Redis, before the first webhook is heard. Without Redis there are none to be found: calls
 * in progress are left to the timers of their homeservers.
 */
async function takeOverJobs({ redis }: Config, deps: Omit<TakeOverDeps, 'open' | 'remove'>): Promise<Cancel> {
  if (redis === null) return () => {};
  // Imported only where it is used: the client of Redis takes a third of the memory of the whole process.
  const { openJobHash } = await import('./takeover/redis.ts');
  const random = systemRandom();
  return takeOver({ ...deps, open: () => openJobHash(redis.place, random, systemTime), remove: redis.removeJobs });
}

interface ClientDeps {
  readonly home: Home | null;
  readonly served: Served;
  readonly resolve: Resolve;
  readonly connections: Connections;
}

function createClient(config: Config, { home, served, resolve, connections }: ClientDeps): DelayedEvents {
  const { applicationService: settings, insecureTls } = config.homeservers;
  const alarms = createAlarms({ clock: systemTime, log });
  const outages = createOutages({
    clock: systemTime,
    mayTell: onceAMinute(systemTime),
    onOutage: (outage) => log.warn(outage, 'a homeserver does not do what it is asked: restarts and leaves are tried again until it does'),
    onEnd: ({ homeserver, lastedMs }) => log.info({ homeserver, lastedMs }, 'a homeserver does again what it is asked'),
  });
  const applicationService =
    home === null || settings === null
      ? null
      : {
          asToken: settings.asToken,
          get homeserver() {
            return home.url;
          },
        };
  return createDelayedEvents({
    ...{ clock: systemTime, applicationService },
    whereIs: (userId) => served.whereIs(serverOf(userId)),
    isLedTo: (url) => served.nameAt(url) !== null,
    outbound: createOutbound({
      ...{ clock: systemTime, addresses: served.addresses, insecureTls, resolve },
      ...{ connections: MOST_AT_ONCE, sockets: connections.delayedEvents },
    }),
    onDialect: (homeserver, dialect) => log.info({ homeserver, dialect }, 'learnt how a homeserver takes delayed events'),
    onFailure: (homeserver, why) => {
      metrics.homeserverFailure(served.nameAt(homeserver) ?? homeserver, why);
      alarms.failed(homeserver, why);
      outages.failed(homeserver, why);
    },
    onAnswer: outages.answered,
  });
}
