import { describe } from 'vitest';
import type { FutureToken } from '../../src/delegation/ids.ts';
import type { Call } from '../../src/homeserver/delayed-events.ts';
import { type DelayedDialect, startDelayedHomeserver } from '../support/delayed-homeserver.ts';
import { type FutureTokens, startFuturesHomeserver } from '../support/futures-homeserver.ts';
import { type ContractHomeserver, delayTarget, homeserverContract, type Target } from './contract.ts';

const ROOM = encodeURIComponent('!room:homeserver.test');
const TYPE = 'org.matrix.msc3401.call.member';
const ALICE = '@alice:homeserver.test';

async function put(url: string, token: string): Promise<unknown> {
  const response = await fetch(url, { method: 'PUT', headers: { authorization: `Bearer ${token}` }, body: '{"left":true}' });
  if (response.status !== 200) throw new Error(`not scheduled: ${response.status}`);
  return response.json();
}

async function delayed(dialect: DelayedDialect): Promise<ContractHomeserver> {
  const fake = await startDelayedHomeserver({ dialect, asToken: 'as_secret' });
  const token = fake.login(ALICE);
  return {
    url: fake.url,
    stop: fake.close,
    arrived: async (key) => fake.rooms.state(decodeURIComponent(ROOM), TYPE, key) !== null,
    async schedule(delayMs, key) {
      const url = `${fake.url}/_matrix/client/v3/rooms/${ROOM}/state/${TYPE}/${key}?org.matrix.msc4140.delay=${delayMs}`;
      return delayTarget(((await put(url, token)) as { delay_id: string }).delay_id);
    },
    ...(dialect === 'D' && { asOwner: { asToken: 'as_secret', userId: ALICE } }),
  };
}

const tokenCall = (token: string): Call => ({ kind: 'token', token: token as FutureToken });
const futureTarget = (tokens: FutureTokens): Target => ({
  send: tokenCall(tokens.send_token),
  restart: tokenCall(tokens.refresh_token ?? ''),
  cancel: tokenCall(tokens.cancel_token),
});

async function futures(paths: 'stable' | 'unstable'): Promise<ContractHomeserver> {
  const fake = await startFuturesHomeserver({ paths, guesses: { most: 100, blockMs: 10_000 } });
  const token = fake.login(ALICE);
  const prefix = paths === 'stable' ? 'v1' : 'unstable/org.matrix.msc4140';
  const nobody = tokenCall('neverwas');
  return {
    url: fake.url,
    stop: fake.close,
    arrived: async (key) => fake.rooms.state(decodeURIComponent(ROOM), TYPE, key) !== null,
    async schedule(delayMs, key) {
      const url = `${fake.url}/_matrix/client/${prefix}/rooms/${ROOM}/state_future/${TYPE}/${key}?future_timeout=${delayMs}`;
      return futureTarget((await put(url, token)) as FutureTokens);
    },
    unknown: { send: nobody, restart: nobody, cancel: nobody },
  };
}

describe.concurrent('model homeservers', () => {
  homeserverContract('futures, stable paths (A)', () => futures('stable'));
  homeserverContract('futures, unstable paths (A)', () => futures('unstable'));
  homeserverContract('delayed events, action in the body (B)', () => delayed('B'));
  homeserverContract('delayed events, action in the path (C)', () => delayed('C'));
  homeserverContract('delayed events, stable (D)', () => delayed('D'), { forgetsFinal: false });
});
