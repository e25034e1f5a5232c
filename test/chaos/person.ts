// A person in the call, as a client behaves: announces its membership, schedules its leave, hands it over with the request for a token,
// connects, and announces itself again when it finds itself declared gone. All that it asks is asked again until it is answered.
import type { Json } from '../e2e/stack/matrix.ts';
import type { Cable, Cut } from '../e2e/stack/network.ts';
import { Participant } from '../e2e/stack/participant.ts';
import { now, sleep } from '../e2e/stack/processes.ts';
import type { Deed, HandOver } from './evidence.ts';

export const MEMBER = 'org.matrix.msc3401.call.member';
const SLOT = 'm.call#ROOM';
const AGAIN_MS = 400;
const WATCH_MS = 250;
const CALL_TIMEOUT_MS = 8_000;

export interface Account {
  readonly baseUrl: string;
  readonly userId: string;
  readonly deviceId: string;
  readonly accessToken: string;
}

export interface Around {
  readonly serviceUrl: string;
  readonly serverName: string;
  /** The newest of its announcements in the room, as others see it. */
  readonly announced: (identity: string) => 'here' | 'gone' | undefined;
  readonly deed: (deed: Deed) => void;
  readonly handOver: (handOver: HandOver) => void;
  /** False: the run is over, nothing is tried again. */
  readonly goesOn: () => boolean;
}

export class Person {
  readonly name: string;
  /** Of the membership event. */
  readonly stateKey: string;
  /** Its identity on the SFU; empty before the first token. */
  identity = '';
  readonly #account: Account;
  readonly #room: string;
  readonly #cable: Cable;
  readonly #delayMs: number;
  readonly #publishes: boolean;
  readonly #around: Around;
  #openId: Json | undefined;
  #participant: Participant | undefined;
  #serial = 0;
  #plugged = true;
  #announcing = false;

  constructor(name: string, account: Account, place: { room: string; cable: Cable; delayMs: number; publishes: boolean; around: Around }) {
    this.name = name;
    this.#account = account;
    this.#room = place.room;
    this.#cable = place.cable;
    this.#delayMs = place.delayMs;
    this.#publishes = place.publishes;
    this.#around = place.around;
    this.stateKey = `_${account.userId}_${account.deviceId}_m.call`;
  }

  /** On the SFU as far as its SDK knows. */
  get connected(): boolean {
    const last = this.#participant?.events.at(-1);
    return this.#participant?.alive === true && (last === undefined || last === 'reconnected');
  }

  /** The SDK has lost its session for good, or its process is gone. */
  get lost(): boolean {
    return this.#participant?.alive !== true || this.#participant.events.at(-1) === 'disconnected';
  }

  /** Comes, with a process that was made ready before, or a new one. Some announce themselves first, some connect first. */
  async enter(connectsFirst: boolean, prepared?: Participant): Promise<void> {
    const participant = prepared ?? (await this.prepare());
    this.#participant = participant;
    if (connectsFirst) {
      await this.#connect(participant, await this.#token());
      await this.#announce();
    } else {
      await this.#connect(participant, await this.#announce());
    }
  }

  prepare(): Promise<Participant> {
    return Participant.prepare(this.#cable.namespace);
  }

  async hangUp(what = 'hung up'): Promise<void> {
    const participant = this.#participant;
    await this.#sayGoodbye(what);
    await participant?.end();
  }

  /** As one who hangs up and calls again from the same app; nothing has to be started for it. */
  async callAgainAfter(awayMs: number): Promise<void> {
    await this.#sayGoodbye('hung up');
    await sleep(awayMs);
    await this.enter(false, this.#participant);
  }

  /** Goodbye and back at once, with nothing of what the page knew. */
  async reload(): Promise<void> {
    const next = await this.prepare();
    await this.hangUp('reloaded');
    await this.enter(false, next);
  }

  async die(what = 'killed'): Promise<void> {
    this.#did(what, 'killed');
    await this.#participant?.end();
  }

  async reconnect(): Promise<void> {
    this.#did('full reconnect');
    await this.#participant?.fullReconnect().catch(() => {});
  }

  async cutFor(ms: number, how: Cut): Promise<void> {
    this.#did(`cut off for ${ms >= 20_000 ? 'over 20' : 'under 16'} s`);
    this.#plugged = false;
    await this.#cable.cut(how);
    await sleep(ms);
    await this.mend();
  }

  async mend(): Promise<void> {
    await this.#cable.mend();
    this.#plugged = true;
  }

  /** What a client does all the time: sees itself declared gone, and says that it is here. */
  async watchItself(): Promise<void> {
    while (this.#around.goesOn()) {
      await sleep(WATCH_MS);
      const gone = this.#around.announced(this.identity) === 'gone';
      if (gone && this.connected && this.#plugged && !this.#announcing) await this.#announce();
    }
  }

  async end(): Promise<void> {
    await this.#participant?.end();
  }

  async #sayGoodbye(what: string): Promise<void> {
    this.#did(what, 'goodbye');
    await this.#participant?.leave().catch(() => {});
  }

  #did(what: string, ended: Deed['ended'] = null): void {
    this.#around.deed({ identity: this.identity, atMs: now(), what, ended });
  }

  async #connect(participant: Participant, grant: { url: string; jwt: string } | null): Promise<void> {
    if (grant === null) return;
    await this.#persist('connect', async () => {
      if (participant.alive) await participant.connect(grant.url, grant.jwt, { publish: this.#publishes });
    });
  }

  /** The membership, its leave, and the hand-over; the token that came with it. */
  async #announce(): Promise<{ url: string; jwt: string } | null> {
    this.#announcing = true;
    try {
      this.#serial += 1;
      const serial = this.#serial;
      const content = { application: 'm.call', call_id: '', device_id: this.#account.deviceId, serial };
      await this.#persist('announce', () => this.#matrix('PUT', this.#statePath(), content));
      const delayed = `${this.#statePath()}?org.matrix.msc4140.delay=${this.#delayMs}`;
      const scheduled = await this.#persist('schedule', () => this.#matrix('PUT', delayed, {}));
      if (scheduled === null) return null;
      const delayId = String(scheduled.delay_id);
      const grant = await this.#token({ delay_id: delayId, delay_timeout: this.#delayMs, delay_cs_api_url: this.#account.baseUrl });
      this.#around.handOver({ identity: this.identity, serial, delayId, takenMs: grant === null ? null : now() });
      return grant;
    } finally {
      this.#announcing = false;
    }
  }

  async #token(delegation: Json = {}): Promise<{ url: string; jwt: string } | null> {
    const granted = await this.#persist('token', async () => {
      this.#openId ??= await this.#matrix(
        'POST',
        `/_matrix/client/v3/user/${encodeURIComponent(this.#account.userId)}/openid/request_token`,
        {},
      );
      const { userId, deviceId } = this.#account;
      return ask('POST', `${this.#around.serviceUrl}/get_token`, undefined, {
        room_id: this.#room,
        slot_id: SLOT,
        openid_token: this.#openId,
        member: { id: `${userId}:${deviceId}`, claimed_user_id: userId, claimed_device_id: deviceId },
        ...delegation,
      });
    });
    if (granted === null) return null;
    const [, claims = ''] = String(granted.jwt).split('.');
    this.identity = String((JSON.parse(Buffer.from(claims, 'base64url').toString()) as Json).sub);
    return { url: String(granted.url), jwt: String(granted.jwt) };
  }

  #matrix(method: string, path: string, body: Json): Promise<Json> {
    return ask(method, `${this.#account.baseUrl}${path}`, this.#account.accessToken, body);
  }

  #statePath(): string {
    return `/_matrix/client/v3/rooms/${encodeURIComponent(this.#room)}/state/${MEMBER}/${encodeURIComponent(this.stateKey)}`;
  }

  /** Until it works; null: the run is over. */
  async #persist<T>(what: string, attempt: () => Promise<T>): Promise<T | null> {
    for (let tries = 1; this.#around.goesOn(); tries += 1) {
      try {
        return await attempt();
      } catch (error) {
        if (tries % 40 === 0) console.log(`${this.name} can't ${what}: ${String(error)}`);
        await sleep(AGAIN_MS);
      }
    }
    return null;
  }
}

async function ask(method: string, url: string, token: string | undefined, body: Json): Promise<Json> {
  const headers = { 'content-type': 'application/json', ...(token !== undefined && { authorization: `Bearer ${token}` }) };
  const response = await fetch(url, { method, headers, body: JSON.stringify(body), signal: AbortSignal.timeout(CALL_TIMEOUT_MS) });
  const answer = (await response.json()) as Json;
  if (!response.ok) throw new Error(`${response.status} ${JSON.stringify(answer)}`);
  return answer;
}
