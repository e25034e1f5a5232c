// Hundreds of real participants on a real livekit-server, whose own webhooks go round among replicas as a balancer sends them.
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { LiveKit, participantToken, sfuUrl } from '../e2e/stack/livekit.ts';
import { nodeBinary } from '../e2e/stack/processes.ts';
import type { Answer, Command } from './crowd-process.ts';

const PROGRAM = join(import.meta.dirname, 'crowd-process.ts');
const IN_ONE_PROCESS = 50;
const MOST_TRIES = 5;
/** A stopped process keeps its connections open and says nothing; a balancer gives it up. */
const SILENCE_MS = 10_000;

export class Crowd {
  /** What of LiveKit's was passed on, by the answer that LiveKit got. */
  readonly answers = new Map<number, number>();
  readonly #livekit: LiveKit;
  readonly #balancer: Server;
  readonly #processes: readonly ChildProcess[];
  readonly #waiting = new Map<string, PromiseWithResolvers<void>>();

  private constructor(livekit: LiveKit, balancer: Server, processes: readonly ChildProcess[]) {
    this.#livekit = livekit;
    this.#balancer = balancer;
    this.#processes = processes;
    for (const one of processes) one.on('message', (answer: Answer) => this.#answered(answer));
  }

  /** `ports`: the replicas, the next one to be asked first. */
  static async start(members: number, ports: () => readonly number[]): Promise<Crowd> {
    const balancer = createServer((incoming, outgoing) => void crowd.#passOn(incoming, outgoing, ports()));
    balancer.listen(0, '127.0.0.1');
    await once(balancer, 'listening');
    const { port } = balancer.address() as AddressInfo;
    const livekit = await LiveKit.start([`http://127.0.0.1:${port}/sfu_webhook`]);
    const processes = Array.from({ length: Math.ceil(members / IN_ONE_PROCESS) }, () =>
      fork(PROGRAM, [], { execPath: nodeBinary, stdio: ['ignore', 'ignore', 'ignore', 'ipc'] }),
    );
    const crowd = new Crowd(livekit, balancer, processes);
    return crowd;
  }

  get sfuUrl(): string {
    return sfuUrl(this.#livekit.address);
  }

  /** Resolves when the SFU has it; tried again as a client does. @throws Error when it could not connect. */
  async join(member: number, room: string, identity: string): Promise<void> {
    const command: Command = { kind: 'join', member, url: this.sfuUrl, token: await participantToken(room, identity) };
    for (let tries = 1; ; tries += 1) {
      try {
        return await this.#command(command);
      } catch (error) {
        if (tries === MOST_TRIES) throw error;
      }
    }
  }

  /** Says goodbye. */
  leave(member: number): Promise<void> {
    return this.#command({ kind: 'leave', member });
  }

  async end(): Promise<void> {
    for (const one of this.#processes) {
      const gone = once(one, 'exit');
      one.kill('SIGKILL');
      await gone;
    }
    await this.#livekit.kill();
    this.#balancer.close();
    this.#balancer.closeAllConnections();
  }

  #command(command: Command): Promise<void> {
    const answer = Promise.withResolvers<void>();
    this.#waiting.set(`${command.kind} ${command.member}`, answer);
    this.#processes[command.member % this.#processes.length]?.send(command);
    return answer.promise;
  }

  #answered({ kind, member, error }: Answer): void {
    const waiting = this.#waiting.get(`${kind} ${member}`);
    if (error === null) waiting?.resolve();
    else waiting?.reject(new Error(`${kind} of ${member}: ${error}`));
  }

  /** One that takes no connection is passed over, as balancers do; that nobody answers is for LiveKit to try again. */
  async #passOn(incoming: IncomingMessage, outgoing: ServerResponse, ports: readonly number[]): Promise<void> {
    const body = await text(incoming);
    const { authorization = '', 'content-type': type = '' } = incoming.headers;
    const headers = { authorization, 'content-type': type };
    for (const port of ports) {
      const url = `http://127.0.0.1:${port}${incoming.url}`;
      const answer = await fetch(url, { method: 'POST', headers, body, signal: AbortSignal.timeout(SILENCE_MS) }).catch(() => null);
      if (answer === null) continue;
      await answer.arrayBuffer();
      return this.#reply(outgoing, answer.status);
    }
    this.#reply(outgoing, 502);
  }

  #reply(outgoing: ServerResponse, status: number): void {
    this.answers.set(status, (this.answers.get(status) ?? 0) + 1);
    outgoing.writeHead(status).end();
  }
}
