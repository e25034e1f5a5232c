// The SFU's own client for its room API, taught to live behind a path.
import { RoomServiceClient } from 'livekit-server-sdk';
import type { ApiKey } from './keys.ts';

/** An SFU beside us that has not answered by now is away; its word would also be too old. */
const TIMEOUT_SECONDS = 5;

/**
 * The SDK resolves its calls against the host alone, yet SFUs often live behind a path (wss://host/livekit/sfu). Its RPC part can be
 * told a prefix, its clients can't; test/sfu/rooms.test.ts fails if a newer SDK moves it.
 */
export function createRoomService(apiUrl: string, key: ApiKey): RoomServiceClient {
  const { origin, pathname } = new URL(apiUrl);
  const client = new RoomServiceClient(origin, key.key, key.secret, { requestTimeout: TIMEOUT_SECONDS });
  const { rpc } = client as unknown as { rpc: { prefix: string } };
  rpc.prefix = `${pathname.replace(/\/+$/, '')}/twirp`;
  return client;
}
