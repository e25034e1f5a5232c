// Some dozens of real participants of the SFU in one process. Commands and answers go over IPC.
import { dispose, Room } from '@livekit/rtc-node';

export type Command =
  | { readonly kind: 'join'; readonly member: number; readonly url: string; readonly token: string }
  | { readonly kind: 'leave'; readonly member: number };
/** `error`: null if it worked. */
export interface Answer {
  readonly kind: Command['kind'];
  readonly member: number;
  readonly error: string | null;
}

const rooms = new Map<number, Room>();

async function obey(command: Command): Promise<void> {
  const { member } = command;
  if (command.kind === 'leave') return rooms.get(member)?.disconnect();
  const room = new Room();
  rooms.set(member, room);
  await room.connect(command.url, command.token, { autoSubscribe: false, dynacast: false });
}

process.on('message', (command: Command) => {
  const { kind, member } = command;
  const tell = (error: string | null): void => void process.send?.({ kind, member, error } satisfies Answer);
  obey(command).then(
    () => tell(null),
    (error: unknown) => tell(String(error)),
  );
});
process.on('disconnect', () => void dispose().finally(() => process.exit()));
