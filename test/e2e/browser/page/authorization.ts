// How a client asks whether delegations are taken, asks for a token, and hands its leave over: by the drop-in API, or by its homeserver. No
// answer is trusted to be there; each failure says what was asked.
import type { IOpenIDToken, MatrixClient } from 'matrix-js-sdk';
import type { Delay, Mode } from './contract.ts';

export interface Grant {
  readonly url: string;
  readonly jwt: string;
}
export interface Membership {
  readonly room: string;
  readonly memberId: string;
  readonly userId: string;
  readonly deviceId: string;
}

export interface Authorization {
  /** Any answer but 404 says that delegations are taken. */
  takesDelegations(): Promise<boolean>;
  token(membership: Membership): Promise<Grant>;
  delegate(membership: Membership, delay: Delay): Promise<void>;
}

const takesDelegations = async (path: string): Promise<boolean> => (await fetch(path, { method: 'POST' })).status !== 404;

export class ByService implements Authorization {
  readonly #url: string;
  readonly #client: MatrixClient;
  readonly #mode: Mode;

  constructor(url: string, client: MatrixClient, mode: Mode) {
    this.#url = url;
    this.#client = client;
    this.#mode = mode;
  }

  takesDelegations(): Promise<boolean> {
    return takesDelegations(`${this.#url}/delegate_delayed_leave`);
  }

  token(membership: Membership): Promise<Grant> {
    return this.#ask(membership);
  }

  /** There is a token with it, too. */
  async delegate(membership: Membership, delay: Delay): Promise<void> {
    await this.#ask(membership, delay);
  }

  async #ask(membership: Membership, delay?: Delay): Promise<Grant> {
    const openid = await this.#client.getOpenIdToken();
    const [path, body] = this.#mode === 'legacy' ? ['/sfu/get', legacy(membership, openid)] : ['/get_token', newer(membership, openid)];
    const delegation =
      delay === undefined
        ? {}
        : { delay_id: delay.delayId, delay_timeout: delay.delayMs, delay_cs_api_url: this.#client.getHomeserverUrl() };
    const response = await fetch(`${this.#url}${path}`, { method: 'POST', body: JSON.stringify({ ...body, ...delegation }) });
    const text = await response.text();
    if (!response.ok) throw new Error(`${path}${delay === undefined ? '' : ' with a delegation'}: ${response.status} ${text}`);
    return JSON.parse(text) as Grant;
  }
}

/** As matrix-js-sdk asks. */
export class ByHomeserver implements Authorization {
  readonly #client: MatrixClient;
  readonly #sfuUrl: string;

  constructor(client: MatrixClient, sfuUrl: string) {
    this.#client = client;
    this.#sfuUrl = sfuUrl;
  }

  /** Without a token, as Element Call does it: the homeserver itself then answers 401. */
  takesDelegations(): Promise<boolean> {
    const path = '/_matrix/client/unstable/io.element.msc4195/rtc/livekit/delegate_delayed_leave';
    return takesDelegations(`${this.#client.getHomeserverUrl()}${path}`);
  }

  async token(membership: Membership): Promise<Grant> {
    const { jwt } = await this.#client._unstable_getLivekitToken(this.#named(membership));
    return { url: this.#sfuUrl, jwt };
  }

  async delegate(membership: Membership, { delayId }: Delay): Promise<void> {
    await this.#client._unstable_delegateDelayedLeave({ ...this.#named(membership), delay_id: delayId });
  }

  #named({ room, memberId, deviceId }: Membership) {
    return { url: this.#sfuUrl, room_id: room, slot_id: 'm.call#ROOM', member: { id: memberId, claimed_device_id: deviceId } };
  }
}

const legacy = ({ room, deviceId }: Membership, openid: IOpenIDToken): object => ({ room, openid_token: openid, device_id: deviceId });

const newer = ({ room, memberId, userId, deviceId }: Membership, openid: IOpenIDToken): object => ({
  room_id: room,
  slot_id: 'm.call#ROOM',
  openid_token: openid,
  member: { id: memberId, claimed_user_id: userId, claimed_device_id: deviceId },
});

/** What the token says, unchecked: the SFU is the one to check it. */
export function claims(jwt: string): { identity: string; video: Record<string, unknown> } {
  const payload = atob((jwt.split('.')[1] ?? '').replaceAll('-', '+').replaceAll('_', '/'));
  const { sub, video } = JSON.parse(payload) as { sub: string; video: Record<string, unknown> };
  return { identity: sub, video };
}
