// One participant of the SFU in a process of its own, so that it can crash alone. Commands and answers go over IPC.
import {
  AudioFrame,
  AudioSource,
  dispose,
  LocalAudioTrack,
  Room,
  RoomEvent,
  SimulateScenarioKind,
  TrackPublishOptions,
  TrackSource,
} from '@livekit/rtc-node';

/** What the SDK can play by itself, or ask the SFU to play. */
export type Scenario = 'signal reconnect' | 'full reconnect' | 'migration' | 'node failure' | 'server leave';
const SCENARIOS: Readonly<Record<Scenario, SimulateScenarioKind>> = {
  'signal reconnect': SimulateScenarioKind.SIMULATE_SIGNAL_RECONNECT,
  'full reconnect': SimulateScenarioKind.SIMULATE_FULL_RECONNECT,
  migration: SimulateScenarioKind.SIMULATE_MIGRATION,
  'node failure': SimulateScenarioKind.SIMULATE_NODE_FAILURE,
  'server leave': SimulateScenarioKind.SIMULATE_SERVER_LEAVE,
};

export type Command =
  | { readonly kind: 'connect'; readonly url: string; readonly token: string; readonly publish: boolean }
  | { readonly kind: 'simulate'; readonly scenario: Scenario }
  | { readonly kind: 'disconnect' };
export type Answer =
  | { readonly kind: 'ready' }
  | { readonly kind: 'done'; readonly atMs: number; readonly sid: string }
  | { readonly kind: 'failed'; readonly error: string }
  | { readonly kind: 'event'; readonly name: string; readonly atMs: number };

const SAMPLE_RATE = 48_000;
let room: Room | undefined;
let source: AudioSource | undefined;
const nowMs = (): number => performance.timeOrigin + performance.now();
const tell = (answer: Answer): void => void process.send?.(answer);

async function connect(url: string, token: string, publish: boolean): Promise<void> {
  room = new Room();
  for (const name of [RoomEvent.Reconnecting, RoomEvent.Reconnected, RoomEvent.Disconnected]) {
    room.on(name, () => tell({ kind: 'event', name, atMs: nowMs() }));
  }
  await room.connect(url, token, { autoSubscribe: true, dynacast: false });
  if (!publish || room.localParticipant === undefined) return;
  source = new AudioSource(SAMPLE_RATE, 1);
  const options = new TrackPublishOptions({ source: TrackSource.SOURCE_MICROPHONE });
  await room.localParticipant.publishTrack(LocalAudioTrack.createAudioTrack('silence', source), options);
  void speak(source);
}

async function speak(into: AudioSource): Promise<void> {
  const frame = new AudioFrame(new Int16Array(SAMPLE_RATE / 100), SAMPLE_RATE, 1, SAMPLE_RATE / 100);
  while (source === into) await into.captureFrame(frame);
}

async function obey(command: Command): Promise<void> {
  switch (command.kind) {
    case 'connect':
      return connect(command.url, command.token, command.publish);
    case 'simulate':
      return room?.simulateScenario(SCENARIOS[command.scenario]);
    case 'disconnect':
      source = undefined;
      return room?.disconnect();
  }
}

process.on('message', (command: Command) => {
  obey(command).then(
    () => tell({ kind: 'done', atMs: nowMs(), sid: room?.localParticipant?.sid ?? '' }),
    (error: unknown) => tell({ kind: 'failed', error: String(error) }),
  );
});
process.on('disconnect', () => void dispose().finally(() => process.exit()));
tell({ kind: 'ready' });
