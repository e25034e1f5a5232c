// The native API, /v1/delegations: a participant hands over the token of its own leave. Its LiveKit token says which room and identity that
// is, so no Matrix user, room or device is told.
import { type Context, Hono } from 'hono';
import { cors } from 'hono/cors';
import type { Clock } from '../clock.ts';
import { type Owner, parseDelegationId, participantOwner, type RoomName, userInIdentity } from '../delegation/ids.ts';
import type { Delegation } from '../delegation/state.ts';
import type { Engine } from '../engine/engine.ts';
import type { Discovery } from '../homeserver/discovery.ts';
import type { Served } from '../homeserver/served.ts';
import type { Metrics } from '../metrics.ts';
import type { Keys, Participant } from '../sfu/keys.ts';
import { authorizationOf, type Bodies } from './body.ts';
import { countHandedOver, countingRefusals } from './counted.ts';
import { MatrixError, methodNotAllowed } from './errors.ts';
import { parseJson } from './fields.ts';
import { patiently } from './patience.ts';
import type { RateLimit } from './rate-limit.ts';
import { parseDelegation } from './requests.ts';

export interface DelegationsDeps {
  readonly engine: Engine;
  readonly clock: Clock;
  readonly keys: Keys;
  readonly served: Served;
  readonly discovery: Discovery;
  readonly metrics: Metrics;
  readonly limit: RateLimit<Owner>;
  readonly bodies: Bodies;
  readonly assertOpen: () => void;
}

interface Asked {
  readonly body: Buffer;
  /** When the request came, Unix ms. */
  readonly askedAtMs: number;
}

const MOST_BYTES = 64 * 1024;

export function delegationRoutes(deps: DelegationsDeps): Hono {
  const { engine, keys, metrics, bodies, assertOpen } = deps;
  const app = new Hono();
  // Clients are web pages of any origin: what they may do hangs on their token alone.
  app.use(
    '*',
    cors({
      origin: '*',
      allowMethods: ['GET', 'POST', 'DELETE'],
      allowHeaders: ['Authorization', 'Content-Type'],
      exposeHeaders: ['Retry-After'],
      maxAge: 86_400,
    }),
  );

  app.post('/', async (c) => {
    assertOpen();
    const askedAtMs = deps.clock.nowMs();
    return countingRefusals(metrics, async () => {
      const body = await bodies.read(c, MOST_BYTES);
      return create(c, { ...authenticate(c, keys), body, askedAtMs });
    });
  });

  async function create(c: Context, { room, identity, body, askedAtMs }: Participant & Asked): Promise<Response> {
    const { homeserver: named, leave } = parseDelegation(parseJson(body));
    const owner = participantOwner(room, identity);
    const waitMs = deps.limit.take(owner);
    if (waitMs > 0) throw new MatrixError(429, 'M_LIMIT_EXCEEDED', 'Too many delegations by this participant', waitMs);
    const homeserver = await resolve(named);
    const userId = userInIdentity(identity);
    const handOver = { owner, room, identities: [identity], homeserver, userId, askedAtMs, ...leave };
    const done = await patiently(deps.clock, () => engine.handOver(handOver));
    countHandedOver(metrics, done);
    return c.json(summaryOf(done.row), done.kind === 'created' ? 201 : 200);
  }

  async function resolve(named: string) {
    const served = deps.served.parse(named);
    if (served.kind === 'malformed') throw new MatrixError(400, 'M_BAD_JSON', `homeserver is ${served.why}`);
    if (served.kind === 'not_served') throw new MatrixError(403, 'M_FORBIDDEN', 'homeserver is not one that this service serves');
    const resolved = await deps.discovery.resolve(served);
    if (resolved.kind === 'resolved') return resolved.url;
    throw new MatrixError(400, 'M_BAD_JSON', 'homeserver: unable to resolve its client-server API');
  }

  app.get('/:id', async (c) => {
    const { room, owner } = ownerOf(c, keys);
    const id = parseDelegationId(c.req.param('id'));
    const row = id === null ? null : await engine.read(room, id);
    if (row === null || row.owner !== owner) throw notFound();
    return c.json(viewOf(row));
  });

  app.delete('/:id', async (c) => {
    assertOpen();
    const { room, owner } = ownerOf(c, keys);
    const id = parseDelegationId(c.req.param('id'));
    const row = id === null ? null : await engine.handBack(room, id, owner);
    if (row === null) throw notFound();
    metrics.delegation('handed_back');
    return c.json(viewOf(row));
  });

  app.all('/', (c) => methodNotAllowed(c, 'POST'));
  app.all('/:id', (c) => methodNotAllowed(c, 'GET, DELETE'));
  return app;
}

const notFound = () => new MatrixError(404, 'M_NOT_FOUND', 'No such delegation of this participant');

function authenticate(c: Context, keys: Keys): Participant {
  const jwt = /^Bearer +(\S+)$/i.exec(authorizationOf(c) ?? '')?.[1];
  const participant = jwt === undefined ? null : keys.participant(jwt);
  if (participant !== null) return participant;
  throw new MatrixError(
    401,
    'M_UNAUTHORIZED',
    'Authorization must be a Bearer LiveKit token of this SFU that may join a room and is not expired',
  );
}

function ownerOf(c: Context, keys: Keys): { readonly room: RoomName; readonly owner: Owner } {
  const { room, identity } = authenticate(c, keys);
  return { room, owner: participantOwner(room, identity) };
}

/** As JSON; times are Unix ms. `cancelling` is not shown: to the client, a superseded delegation has ended. */
function summaryOf(row: Delegation) {
  const { state } = row;
  return {
    id: row.id,
    state: state.kind === 'cancelling' ? 'ended' : state.kind,
    restart_due_at: state.kind === 'connected' ? state.restartDueMs : null,
    expires_at: row.expiry.earliestMs,
  };
}

function viewOf(row: Delegation) {
  const { state } = row;
  const session = state.kind === 'connected' || state.kind === 'settling' || state.kind === 'leaving' ? state.session : null;
  const ended = state.kind === 'ended' ? state : null;
  return {
    ...summaryOf(row),
    sid: session?.sid ?? null,
    created_at: row.createdAtMs,
    outcome: ended?.outcome ?? (state.kind === 'cancelling' ? 'superseded' : null),
    cause: ended?.cause ?? (state.kind === 'settling' || state.kind === 'leaving' ? state.departure.cause : null),
    history: row.history.map(({ atMs, event, to, detail }) => ({ at: atMs, event, state: to, detail })),
  };
}
