// One case played once: which webhooks came after it, in which order, with which reason and for which session, and when the client was back.
import { randomBytes } from 'node:crypto';
import { LiveKit, participantToken, sfuUrl } from '../stack/livekit.ts';
import type { Network } from '../stack/network.ts';
import { eventually, now, sleep } from '../stack/processes.ts';
import { type Webhook, WebhookTap } from '../stack/webhooks.ts';
import type { Case } from './cases.ts';
import { browserGuest, type GuestKind, nodeGuest } from './guests.ts';

/** A webhook, its time counted from the deed. Sessions are called A, B, C in the order of their coming. */
export interface Told {
  readonly what: string;
  readonly afterMs: number;
}

export interface Played {
  readonly kind: GuestKind;
  readonly name: string;
  readonly told: readonly Told[];
  /** From the deed to the SDK's word that it is connected (again); null: it was not. */
  readonly backMs: number | null;
  /** Between the newest departure and the next join that followed: how long a wait has to be; null: no join followed. */
  readonly gapMs: number | null;
  /** From the deed to an SFU that was taken away and answers again; null: it was not. */
  readonly sfuBackMs: number | null;
}

export interface Ground {
  readonly network: Network;
  readonly pagesUrl: string;
  readonly livekit: LiveKit;
  readonly tap: WebhookTap;
}

const TELLING = /^(participant_joined|participant_left|participant_connection_aborted|room_started|room_finished)$/;

/** Null: this client has no such thing. */
export async function play(one: Case, kind: GuestKind, shared: Ground): Promise<Played | null> {
  const ground = one.alone === true ? await ownSfu(shared) : shared;
  try {
    return await playOn(ground, one, kind);
  } finally {
    if (ground !== shared) {
      await ground.livekit.kill();
      ground.tap.stop();
    }
  }
}

async function ownSfu({ network, pagesUrl }: Ground): Promise<Ground> {
  const tap = await WebhookTap.start();
  return { network, pagesUrl, tap, livekit: await LiveKit.start([tap.url], { network }) };
}

async function playOn(ground: Ground, one: Case, kind: GuestKind): Promise<Played | null> {
  const { network, livekit, tap, pagesUrl } = ground;
  const [room, identity] = ['room', 'identity'].map((name) => `${name}-${randomBytes(6).toString('hex')}`) as [string, string];
  const [url, token] = [sfuUrl(livekit.address), await participantToken(room, identity)];
  const cable = await network.cable();
  const guest = await (kind === 'rtc-node' ? nodeGuest(cable, url, token) : browserGuest(cable, pagesUrl, url, token));
  const others: { end(): Promise<void> }[] = [guest];
  try {
    const another = async (): Promise<void> => {
      const next = await nodeGuest(cable, url, token);
      others.push(next);
    };
    const act = one.act({ guest, cable, livekit, room, identity, another });
    if (act === null) return null;
    await eventually('its join to be told', 10_000, () => tap.find('participant_joined', identity)[0]);
    await sleep(1_500);
    const [atMs, before] = [now(), tap.seen.length];
    const acted = act();
    let actedMs: number | null = null;
    // Looked at when the watch is over.
    acted.then(
      () => {
        actedMs = now() - atMs;
      },
      () => {},
    );
    await sleep(one.watchMs);
    await Promise.race([acted, sleep(1_000)]);
    const told = tap.seen.slice(before).filter((webhook) => webhook.room === room && TELLING.test(webhook.event));
    const first = tap.find('participant_joined', identity)[0]?.sid ?? '';
    const back = (await guest.happened()).findLast((event) => event.atMs > atMs && /connected$/.test(event.what));
    const backMs = back === undefined || back.what === 'disconnected' ? null : back.atMs - atMs;
    return {
      kind,
      name: one.name,
      told: named(told, first, atMs),
      backMs,
      gapMs: gapOf(told),
      sfuBackMs: one.alone === true ? actedMs : null,
    };
  } finally {
    for (const other of others) await other.end().catch(() => {});
  }
}

function named(told: readonly Webhook[], first: string, atMs: number): Told[] {
  const sessions = [first];
  return told.map((webhook) => {
    const { event, sid, reason } = webhook;
    if (sid !== '' && !sessions.includes(sid)) sessions.push(sid);
    const session = sid === '' ? '' : ` ${String.fromCharCode(65 + sessions.indexOf(sid))}`;
    const why = reason === '' || event === 'participant_joined' ? '' : ` [${reason}]`;
    return { what: `${event.replace('participant_', '').replace('connection_', '')}${session}${why}`, afterMs: webhook.atMs - atMs };
  });
}

function gapOf(told: readonly Webhook[]): number | null {
  const join = told.findLast(({ event }) => event === 'participant_joined');
  const left = told.find(({ event, atMs }) => event === 'participant_left' && atMs <= (join?.atMs ?? 0));
  return join === undefined || left === undefined ? null : join.atMs - left.atMs;
}
