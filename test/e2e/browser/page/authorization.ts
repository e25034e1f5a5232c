// The drop-in API as a client uses it: probe, token, delegation. No answer is trusted to be there; each failure says what was asked.
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

export class Authorization {
  readonly #url: string;
  readonly #client: MatrixClient;
  readonly #mode: Mode;

  constructor(url: string, client: MatrixClient, mode: Mode) {
    this.#url = url;
    this.#client = client;
    this.#mode = mode;
  }

  /** Any answer but 404 says that delegations are taken. */
  async takesDelegations(): Promise<boolean> {
    const response = await fetch(`${this.#url}/delegate_delayed_leave`, { method: 'POST' });
    return response.status !== 404;
  }

  /** A token for the SFU, and with a delay the delegation of that event. */
  async token(membership: Membership, delay?: Delay): Promise<Grant> {
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
