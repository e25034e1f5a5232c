// The model SFU, held to what the real one does, and what only a model can show: faults of its webhooks and its API.
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { RoomServiceClient } from 'livekit-server-sdk';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type FakeSfu, startFakeSfu } from '../support/fake-sfu.ts';
import { type Received, sfuContract } from './contract.ts';

interface Mailbox {
  readonly url: string;
  readonly received: Received[];
  /** Asked for each webhook; 200 unless told. */
  status: (nth: number) => number;
  close(): Promise<void>;
}

async function startMailbox(): Promise<Mailbox> {
  const received: Received[] = [];
  let count = 0;
  const server: Server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    count += 1;
    const status = mailbox.status(count);
    if (status === 200) received.push({ body: Buffer.concat(chunks).toString(), authorization: request.headers.authorization ?? '' });
    response.writeHead(status).end();
  });
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  const mailbox: Mailbox = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/sfu_webhook`,
    received,
    status: () => 200,
    async close() {
      const closed = new Promise<void>((resolve) => void server.close(() => resolve()));
      server.closeAllConnections();
      await closed;
    },
  };
  return mailbox;
}

sfuContract('the model SFU', async () => {
  const mailbox = await startMailbox();
  const sfu = await startFakeSfu({ webhookUrls: [mailbox.url] });
  return {
    apiUrl: sfu.apiUrl,
    key: sfu.key,
    secret: sfu.secret,
    webhooks: () => mailbox.received,
    async join(room, identity) {
      if (sfu.participants(room).some((participant) => participant.identity === identity)) await sfu.rejoin(room, identity);
      else sfu.join(room, identity);
    },
    leave: async (room, identity) => sfu.leave(room, identity),
    async stop() {
      await sfu.close();
      await mailbox.close();
    },
  };
});

describe('the model SFU', () => {
  let mailbox: Mailbox;
  let sfu: FakeSfu;
  const started = (roomClosesAfterMs: number) =>
    startFakeSfu({ webhookUrls: [mailbox.url], triesMs: [0, 20, 60, 140, 300], roomClosesAfterMs });
  beforeEach(async () => {
    mailbox = await startMailbox();
    sfu = await started(60_000);
  });
  afterEach(async () => {
    await sfu.close();
    await mailbox.close();
  });
  const events = () =>
    mailbox.received.map(({ body }) => {
      const { event, participant } = JSON.parse(body);
      return [event, participant?.identity, participant?.disconnectReason === 'UNKNOWN_REASON' ? undefined : participant?.disconnectReason]
        .filter(Boolean)
        .join(' ');
    });

  test('a crash is noticed late, and not at all when the participant is back before', async () => {
    sfu.join('r', 'alice');
    sfu.crash('r', 'alice', 30);
    sfu.join('r', 'bob');
    sfu.crash('r', 'bob', 30);
    sfu.join('r', 'bob');
    await expect.poll(events).toContain('participant_left alice CONNECTION_TIMEOUT');
    expect(events()).not.toContain('participant_left bob CONNECTION_TIMEOUT');
    expect(sfu.participants('r').map(({ identity }) => identity)).toEqual(['bob']);
  });

  test('a full reconnect is a goodbye, then nobody, then somebody who is not ACTIVE yet, then a join', async () => {
    const before = sfu.join('r', 'alice');
    const back = sfu.fullReconnect('r', 'alice');
    expect(sfu.participants('r')).toEqual([]);
    await expect.poll(() => sfu.participants('r').map(({ state }) => state), { interval: 2 }).toEqual(['JOINED']);
    expect(await back).not.toBe(before);
    await sfu.settled();
    expect(events()).toEqual([
      'room_started',
      'participant_joined alice',
      'participant_left alice CLIENT_INITIATED',
      'participant_joined alice',
    ]);
  });

  test('who only knocks throws the session out and is never announced', async () => {
    sfu.join('r', 'alice');
    sfu.knock('r', 'alice');
    sfu.abort('r', 'alice');
    await sfu.settled();
    expect(events().slice(2)).toEqual(['participant_left alice DUPLICATE_IDENTITY', 'participant_connection_aborted alice SIGNAL_CLOSE']);
  });

  test('an empty room finishes after a while, unless somebody comes', async () => {
    await sfu.close();
    sfu = await started(200);
    sfu.join('r', 'alice');
    sfu.leave('r', 'alice');
    sfu.join('r', 'bob');
    sfu.leave('r', 'bob');
    await expect.poll(events).toContain('room_finished');
    expect(events().filter((event) => event === 'room_finished')).toHaveLength(1);
    expect(events().filter((event) => event === 'room_started')).toHaveLength(1);
  });

  test('5xx is tried again in order, 4xx is not, and after the fifth time it is given up', async () => {
    mailbox.status = (nth) => (nth <= 2 ? 503 : 200);
    sfu.join('r', 'alice');
    await sfu.settled();
    expect(sfu.webhooks.map(({ statuses }) => statuses)).toEqual([[503, 503, 200], [200]]);
    mailbox.status = () => 400;
    sfu.leave('r', 'alice');
    await sfu.settled();
    expect(sfu.webhooks.at(-1)?.statuses).toEqual([400]);
    mailbox.status = () => 500;
    sfu.join('q', 'alice');
    await sfu.settled();
    expect(sfu.webhooks.at(-1)?.statuses).toEqual([500, 500, 500, 500, 500]);
  });

  test('a webhook can be lost, doubled, and overtaken', async () => {
    sfu.deliver = ({ event, identity }) => {
      if (event === 'room_started') return { copies: 0 };
      if (identity === 'bob') return { copies: 2 };
      return identity === 'alice' ? { delayMs: 400, aside: true } : undefined;
    };
    sfu.join('r', 'alice');
    sfu.join('r', 'bob');
    await sfu.settled();
    expect(events()).toEqual(['participant_joined bob', 'participant_joined bob', 'participant_joined alice']);
  });

  test('killed, it forgets everything without a word; started again, rooms are new ones', async () => {
    sfu.join('r', 'alice');
    await sfu.settled();
    const [first] = sfu.webhooks;
    const { apiUrl } = sfu;
    await sfu.killSfu();
    const client = new RoomServiceClient(apiUrl, sfu.key, sfu.secret);
    await expect(client.listRooms()).rejects.toThrow();
    await sfu.start();
    expect(sfu.apiUrl).toBe(apiUrl);
    expect(await client.listParticipants('r')).toEqual([]);
    sfu.join('r', 'alice');
    await sfu.settled();
    expect(events()).toEqual(['room_started', 'participant_joined alice', 'room_started', 'participant_joined alice']);
    expect(sfu.webhooks[2]?.roomSid).not.toBe(first?.roomSid);
  });

  test('the API wants a token of its key with the right grant, and counts its calls', async () => {
    sfu.join('r', 'alice');
    const foreign = new RoomServiceClient(sfu.apiUrl, sfu.key, 'another-secret-of-at-least-32-characters');
    await expect(foreign.listParticipants('r')).rejects.toMatchObject({ status: 401 });
    const client = new RoomServiceClient(sfu.apiUrl, sfu.key, sfu.secret);
    expect((await client.getParticipant('r', 'alice')).identity).toBe('alice');
    await expect(client.getParticipant('r', 'bob')).rejects.toMatchObject({ status: 404, code: 'not_found' });
    await client.createRoom({ name: 'q' });
    expect((await client.listRooms()).map(({ name }) => name)).toEqual(['r', 'q']);
    expect(sfu.calls).toEqual({ ListParticipants: 1, GetParticipant: 2, CreateRoom: 1, ListRooms: 1 });
  });
});
