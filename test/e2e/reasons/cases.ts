// Every way of leaving or of coming back that is recorded, and what it takes to make it happen.
import type { LiveKit } from '../stack/livekit.ts';
import type { Cable } from '../stack/network.ts';
import { sleep } from '../stack/processes.ts';
import type { Guest } from './guests.ts';

/** Who and what a case can do something to. */
export interface Scene {
  readonly guest: Guest;
  readonly cable: Cable;
  readonly livekit: LiveKit;
  readonly room: string;
  readonly identity: string;
  /** Another client of the same identity comes. */
  readonly another: () => Promise<unknown>;
}

export interface Case {
  readonly name: string;
  /** Null: this client has no such thing. */
  readonly act: (scene: Scene) => (() => Promise<unknown>) | null;
  /** How long what follows is watched. */
  readonly watchMs: number;
  /** It takes the SFU from everybody: it has one of its own. */
  readonly alone?: true;
}

/** LiveKit takes 20 s to miss somebody; a webhook that waits for a retry comes later yet. */
const MISSED_MS = 26_000;
const SOON_MS = 8_000;
/** SDKs try again every 7 to 8 s at the most. */
const BACK_MS = 30_000;

const cut = (seconds: number): Case => ({
  name: `network cut for ${seconds} s`,
  act:
    ({ cable }) =>
    async () => {
      await cable.cut('silent');
      await sleep(seconds * 1_000);
      await cable.mend();
    },
  watchMs: seconds < 20 ? MISSED_MS : seconds * 1_000 + 24_000,
});

const killed = (seconds: number): Case => ({
  name: `SFU killed, started again after ${seconds} s`,
  act:
    ({ livekit }) =>
    () =>
      livekit
        .kill()
        .then(() => sleep(seconds * 1_000))
        .then(() => livekit.startAgain()),
  watchMs: seconds * 1_000 + BACK_MS,
  alone: true,
});

export const CASES: readonly Case[] = [
  { name: 'hang-up', act: ({ guest }) => guest.hangUp, watchMs: SOON_MS },
  { name: 'tab closed', act: ({ guest }) => guest.closeTab, watchMs: SOON_MS },
  { name: 'reload', act: ({ guest }) => guest.reload, watchMs: SOON_MS },
  { name: 'process killed', act: ({ guest }) => guest.kill, watchMs: MISSED_MS },
  ...[1, 5, 15, 30, 60].map(cut),
  {
    name: 'signal socket cut',
    act:
      ({ guest }) =>
      () =>
        guest.simulate('signal reconnect'),
    watchMs: SOON_MS,
  },
  {
    name: 'full reconnect',
    act:
      ({ guest }) =>
      () =>
        guest.simulate('full reconnect'),
    watchMs: SOON_MS,
  },
  {
    name: 'the SFU lets go of the session (migration)',
    act:
      ({ guest }) =>
      () =>
        guest.simulate('migration'),
    watchMs: SOON_MS * 3,
  },
  {
    name: 'the SFU tells it to leave',
    act:
      ({ guest }) =>
      () =>
        guest.simulate('server leave'),
    watchMs: SOON_MS,
  },
  { name: 'same identity connects again', act: ({ another }) => another, watchMs: SOON_MS },
  {
    name: 'removed by the API',
    act:
      ({ livekit, room, identity }) =>
      () =>
        livekit.rooms.removeParticipant(room, identity),
    watchMs: SOON_MS,
  },
  {
    name: 'room deleted by the API',
    act:
      ({ livekit, room }) =>
      () =>
        livekit.rooms.deleteRoom(room),
    watchMs: SOON_MS,
  },
  ...[2, 10].map(killed),
  {
    name: 'SFU stopped by TERM, and started again',
    act:
      ({ livekit }) =>
      () =>
        livekit.terminate().then(() => livekit.startAgain()),
    watchMs: BACK_MS,
    alone: true,
  },
];
