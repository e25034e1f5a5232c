// Whose OpenID token is this? Its homeserver is asked over federation (`/openid/userinfo`), and believed about its own users only.
import type { Clock } from '../clock.ts';
import type { ServerName, UserId } from '../delegation/ids.ts';
import { z } from '../library-parts.ts';
import { ADVICE } from './failures.ts';
import type { Federation, FederationTarget } from './federation.ts';
import { parsePrintableUserId, serverOf } from './names.ts';
import type { OpenIdLimit } from './openid-limit.ts';
import type { Outbound, Reply } from './outbound.ts';

const TIMEOUT_MS = 10_000;
const LONGEST_TOKEN = 4096;

const UserInfo = z.object({ sub: z.string() });

export interface OpenIdToken {
  readonly accessToken: string;
  readonly serverName: ServerName;
}
export type OpenIdResult =
  | { readonly kind: 'user'; readonly userId: UserId }
  /** `why` is for the operator's log: no secret, no URL. */
  | { readonly kind: 'refused'; readonly why: string };

export interface OpenId {
  /** One question, without a retry. Never rejects; answers within ten seconds. */
  check(token: OpenIdToken): Promise<OpenIdResult>;
}

export interface OpenIdDeps {
  readonly clock: Clock;
  readonly federation: Federation;
  readonly outbound: Outbound;
  /** Null: all are asked. */
  readonly limit: OpenIdLimit | null;
}

export function createOpenId({ clock, federation, outbound, limit }: OpenIdDeps): OpenId {
  async function check(token: OpenIdToken): Promise<OpenIdResult> {
    if (limit === null) return askOnce(token);
    const leave = limit.enter(token.serverName);
    if (leave === null) return refused('too many others are being asked about');
    let result: OpenIdResult | null = null;
    try {
      result = await askOnce(token);
      return result;
    } finally {
      leave(result?.kind === 'user');
    }
  }

  async function askOnce({ accessToken, serverName }: OpenIdToken): Promise<OpenIdResult> {
    const endsAtMs = clock.nowMs() + TIMEOUT_MS;
    if (accessToken === '' || accessToken.length > LONGEST_TOKEN || !accessToken.isWellFormed()) return refused('not a token');
    const resolved = await federation.resolve(serverName);
    if (resolved.kind === 'unresolvable') return refused(`its homeserver can not be resolved: ${resolved.why}`);
    const reply = await ask(resolved.targets, accessToken, endsAtMs);
    return reply === null ? refused('its homeserver has no address') : read(reply, serverName);
  }

  /** The next target is tried only while none has been reached, so that the token is shown to one server only. */
  async function ask(targets: readonly FederationTarget[], accessToken: string, endsAtMs: number): Promise<Reply | null> {
    let reply: Reply | null = null;
    for (const [index, at] of targets.entries()) {
      const url = `https://${at.hostHeader}/_matrix/federation/v1/openid/userinfo?access_token=${encodeURIComponent(accessToken)}`;
      const timeoutMs = (endsAtMs - clock.nowMs()) / (targets.length - index);
      reply = await outbound.request({ method: 'GET', url, headers: { host: at.hostHeader }, at, timeoutMs });
      if (reply.kind === 'answered' || reply.reached) break;
    }
    return reply;
  }

  return { check };
}

function read(reply: Reply, serverName: ServerName): OpenIdResult {
  if (reply.kind === 'failed') return refused(`its homeserver could not be asked: ${isAdvised(reply.why) ? ADVICE[reply.why] : reply.why}`);
  if (reply.status !== 200) return refused(`its homeserver answered with status ${reply.status}`);
  const parsed = UserInfo.safeParse(reply.json);
  if (!parsed.success) return refused('its homeserver named no user');
  const userId = userOf(parsed.data.sub, serverName);
  return userId === null ? refused('its homeserver named what is no user of its own') : { kind: 'user', userId };
}

const isAdvised = (why: string): why is keyof typeof ADVICE => Object.hasOwn(ADVICE, why);

/** Names are compared as they are written: another spelling of the server is another server. */
function userOf(sub: string, serverName: ServerName): UserId | null {
  const userId = parsePrintableUserId(sub);
  return userId !== null && serverOf(userId) === serverName ? userId : null;
}

function refused(why: string): OpenIdResult {
  return { kind: 'refused', why };
}
