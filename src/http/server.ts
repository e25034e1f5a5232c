// Node's own server, with four changes. An answer that is waited for while it closes ends its connection. Where as many connections are open
// as may be, the next one takes the place of one that nothing is done for. So many requests are begun in one turn of the event loop, and no
// more. And answers that become ready in one turn are sent together at its end. Sent at once, each would wake its reader, usually on another
// processor, and push what the next request needs out of this one's caches. Measured: webhooks that concern nobody cost a quarter less, and a
// token takes a quarter less at the 99th percentile of sixteen at once.
import type { IncomingMessage, RequestListener, Server } from 'node:http';
import type { Socket } from 'node:net';
import type { Clock } from '../clock.ts';
import { createServer, ServerResponse } from '../library-parts.ts';

/** A request that has not come completely by then is answered 408, and what has come of it is freed. */
const LONGEST_REQUEST_MS = 15_000;
const LONGEST_HEAD_MS = 10_000;
/** How often Node looks for requests that are over these times. */
const LOOK_EVERY_MS = 2_000;
/** Four times Node's default: a proxy may add headers to those of a browser, and cookies may be among them. */
const MOST_HEAD_BYTES = 64 * 1024;
/**
 * An idle connection is kept longer than those who send requests on it keep it (the SFU 90 s, Caddy 2 minutes, Google's load balancer 10,
 * Envoy an hour; Apache never closes it): were we the first to close it, a request could be lost on its way, and a proxy sends no POST twice.
 * With very many connections open they are closed sooner: they may be a stranger's.
 */
const IDLE_MS = 3_700_000;
/** Whose other end has vanished is found out by TCP, and is not kept for so long. */
const ALIVE_AFTER_MS = 60_000;
const IDLE_AMONG_MANY_MS = 5_000;
const MANY = 512;
/** A connection on which so long nothing has moved: its answer is not read. What takes longest of us is an answer after some 30 s. */
const STUCK_MS = 60_000;
/**
 * How many requests of one connection may be unfinished. Browsers, proxies and the SFU send one and wait; a stranger could send any number, and
 * each takes some 14 KB for as long as a homeserver is asked about it. Few, when there are many of all connections together.
 */
const MOST_UNFINISHED = { usual: 64, few: 4, many: 2_048 };
/**
 * How many requests are begun in one turn of the event loop, which takes some 2 ms; the others wait for the turns after it, in their order.
 * Thousands of connections may each send one at once. A restart, which has its deadline, needs half a dozen turns from the moment that it is
 * due (the SFU is asked, the row written and synced, the homeserver called), and each would be as long as all of that takes. And Node takes
 * one new connection a turn, which may be the SFU's.
 */
const MOST_A_TURN = 32;

export function createWebServer(listener: RequestListener, clock: Pick<Clock, 'endOfTurn'>): Server {
  let ready: (() => void)[] = [];
  let isEnding = false;

  function sendAll(): void {
    const together = ready;
    ready = [];
    for (const send of together) send();
  }

  /** What is to be done at the end of this turn is done in one go. */
  function willEnd(): void {
    if (isEnding) return;
    isEnding = true;
    clock.endOfTurn(() => {
      isEnding = false;
      try {
        sendAll();
      } finally {
        taken.next();
      }
    });
  }
  const taken = fewATurn(listener, willEnd);

  class AnswerAtEndOfTurn extends ServerResponse {
    /** While the server is closing, connections end with their answers: it would wait for those who keep them, and they ask it again. */
    override writeHead(...given: unknown[]): this {
      if (!server.listening) this.shouldKeepAlive = false;
      return super.writeHead(...(given as [number]));
    }

    override end(...given: unknown[]): this {
      willEnd();
      ready.push(() => {
        super.end(...(given as [unknown]));
        places.answered(this.req);
      });
      return this;
    }
  }
  const limits = { requestTimeout: LONGEST_REQUEST_MS, headersTimeout: LONGEST_HEAD_MS, connectionsCheckingInterval: LOOK_EVERY_MS };
  const tcp = { keepAlive: true, keepAliveInitialDelay: ALIVE_AFTER_MS };
  const options = { ...limits, ...tcp, maxHeaderSize: MOST_HEAD_BYTES, ServerResponse: AnswerAtEndOfTurn };
  const server = createServer(
    options,
    bounded(taken.listener, (incoming) => places.asked(incoming)),
  );
  const places = createPlaces(server);
  return patient(server);
}

/**
 * Anyone may open as many connections as there may be, and say nothing on them, or say it slowly, or not read the answer: the SFU could not
 * connect for as long as they like, and its webhooks would be lost. So the last place goes to whoever comes next, and is made free by closing
 * the oldest connection without a request for us to work on. Its age counts from when it was made, not from its last answer: else who asks
 * again and again would be younger than who has just come, and is to be read first.
 */
function createPlaces(server: Server): { asked(incoming: IncomingMessage): void; answered(incoming: IncomingMessage): void } {
  /** Each with its requests that are not answered, of which there may be several; the oldest first. */
  const open = new Map<Socket, Set<IncomingMessage>>();
  /** Those who were there when this was filled and have not been looked at since; the oldest last. */
  let next: Socket[] = [];

  function makeRoom(newest: Socket): void {
    let refills = 0;
    for (;;) {
      if (next.length === 0) {
        if (refills > 0) return;
        next = [...open.keys()].reverse();
        refills += 1;
      }
      const socket = next.pop() as Socket;
      const isWorkedFor = [...(open.get(socket) ?? [])].some(({ complete }) => complete);
      if (isWorkedFor || socket === newest || socket.destroyed) continue;
      socket.destroy();
      server.emit('drop');
      return;
    }
  }

  server.on('connection', (socket: Socket) => {
    open.set(socket, new Set());
    socket.once('close', () => open.delete(socket));
    if (open.size >= server.maxConnections) makeRoom(socket);
  });
  return {
    asked: (incoming) => void open.get(incoming.socket)?.add(incoming),
    answered: (incoming) => void open.get(incoming.socket)?.delete(incoming),
  };
}

/** Cuts off who goes beyond MOST_UNFINISHED. */
function bounded(listener: RequestListener, asked: (incoming: IncomingMessage) => void): RequestListener {
  const unfinished = new Map<Socket, number>();
  let all = 0;
  const count = (socket: Socket, by: number): void => {
    all += by;
    unfinished.set(socket, (unfinished.get(socket) ?? 0) + by);
  };
  // Of what waits behind another answer Node tells nothing when the connection ends.
  const forget = (socket: Socket): void => {
    all -= unfinished.get(socket) ?? 0;
    unfinished.delete(socket);
  };
  return (incoming, outgoing) => {
    const { socket } = incoming;
    if (socket.destroyed) return;
    if (!unfinished.has(socket)) socket.once('close', () => forget(socket));
    count(socket, 1);
    const { usual, few, many } = MOST_UNFINISHED;
    if ((unfinished.get(socket) ?? 0) > (all > many ? few : usual)) return cutOff(socket);
    outgoing.once('close', () => unfinished.has(socket) && count(socket, -1));
    asked(incoming);
    listener(incoming, outgoing);
  };
}

/** What no callback of the parser may answer. */
const FAILS = -1;

/**
 * Closes a connection, and does not look at what has come with its latest request. Node would: that may be 1,700 requests in one packet, which
 * take 14 ms, and thousands of connections may send one in the same turn. So its parser is made to fail at the next one. Where another Node
 * has no such parser, what has come is parsed and left alone.
 */
function cutOff(socket: Socket): void {
  const { parser } = socket as Socket & { readonly parser?: { onIncoming: (() => number) | null } | null };
  if (parser) parser.onIncoming = () => FAILS;
  socket.destroy();
}

/** One whose body comes in chunks does not wait: they may be a byte long, and until somebody reads them each takes a hundred more. */
const mayWait = ({ headers }: IncomingMessage): boolean => headers['transfer-encoding'] === undefined;

/** `next` is to be called at the end of each turn in which something was begun, which `willEnd` asks for. */
function fewATurn(listener: RequestListener, willEnd: () => void): { readonly listener: RequestListener; next(): void } {
  const waiting: Parameters<RequestListener>[] = [];
  let begun = 0;

  function begin(...request: Parameters<RequestListener>): void {
    begun += 1;
    willEnd();
    listener(...request);
  }

  function next(): void {
    begun = 0;
    while (begun < MOST_A_TURN) {
      const request = waiting.shift();
      if (request === undefined) return;
      if (!request[0].socket.destroyed) begin(...request);
    }
  }
  return {
    listener: (...request) => {
      if ((begun < MOST_A_TURN && waiting.length === 0) || !mayWait(request[0])) begin(...request);
      else waiting.push(request);
    },
    next,
  };
}

function patient(server: Server): Server {
  let open = 0;
  const changed = (by: 1 | -1): void => {
    open += by;
    server.keepAliveTimeout = open > MANY ? IDLE_AMONG_MANY_MS : IDLE_MS;
  };
  server.timeout = STUCK_MS;
  return server.on('connection', (socket: Socket) => {
    changed(1);
    socket.once('close', () => changed(-1));
  });
}
