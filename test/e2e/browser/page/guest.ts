// livekit-client and nothing else: comes with the token in the address, says what happens to it, and plays what it is told.
import { Room, RoomEvent, type SimulationScenario } from 'livekit-client';

declare global {
  interface Window {
    guest: {
      readonly happened: { readonly what: string; readonly atMs: number }[];
      leave: () => Promise<void>;
      simulate: (scenario: SimulationScenario) => Promise<void>;
    };
  }
}

const { url, token } = JSON.parse(decodeURIComponent(location.hash.slice(1))) as { url: string; token: string };
const room = new Room();
const happened: { what: string; atMs: number }[] = [];
const note = (what: string) => () => void happened.push({ what, atMs: performance.timeOrigin + performance.now() });
room.on(RoomEvent.Connected, note('connected'));
room.on(RoomEvent.SignalReconnecting, note('reconnecting'));
room.on(RoomEvent.Reconnecting, note('reconnecting'));
room.on(RoomEvent.Reconnected, note('reconnected'));
room.on(RoomEvent.Disconnected, note('disconnected'));
window.guest = {
  happened,
  leave: () => room.disconnect(),
  simulate: (scenario) => room.simulateScenario(scenario),
};
await room.connect(url, token);
await room.localParticipant.setMicrophoneEnabled(true);
note('published')();
