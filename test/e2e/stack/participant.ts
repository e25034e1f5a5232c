// A participant as the stories see it: comes, goes, or dies; always says when.
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Answer, Command, Scenario } from './participant-process.ts';
import { eventually, nodeBinary, now } from './processes.ts';

const program = join(dirname(fileURLToPath(import.meta.url)), 'participant-process.ts');
const COMMAND_TIMEOUT_MS = 40_000;

export class Participant {
  readonly #child: ChildProcess;
  readonly #answers: Answer[] = [];
  /** What the SDK reported: reconnecting, reconnected, disconnected. */
  readonly events: string[] = [];
  /** The same, with their times. */
  readonly happened: { readonly what: string; readonly atMs: number }[] = [];

  private constructor(namespace: string | undefined) {
    // The namespace's "ip" becomes the program: the process is the participant alone.
    const [execPath, execArgv] = namespace === undefined ? [nodeBinary, []] : ['ip', ['netns', 'exec', namespace, nodeBinary]];
    this.#child = fork(program, [], {
      execPath,
      execArgv,
      stdio: ['ignore', 'ignore', namespace === undefined ? 'inherit' : 'ignore', 'ipc'],
    });
    this.#child.on('message', (answer: Answer) => {
      if (answer.kind === 'event') {
        this.events.push(answer.name);
        this.happened.push({ what: answer.name, atMs: answer.atMs });
      } else this.#answers.push(answer);
    });
  }

  /** A process that is ready to connect; separate from `connect`, since starting one takes a while. */
  static async prepare(namespace?: string): Promise<Participant> {
    const participant = new Participant(namespace);
    const answer = await participant.#answer();
    if (answer.kind !== 'ready') throw new Error(`participant did not start: ${JSON.stringify(answer)}`);
    return participant;
  }

  static async join(url: string, token: string, options: { publish?: boolean } = {}): Promise<Participant> {
    const participant = await Participant.prepare();
    await participant.connect(url, token, options);
    return participant;
  }

  async connect(url: string, token: string, options: { publish?: boolean } = {}): Promise<void> {
    await this.#command({ kind: 'connect', url, token, publish: options.publish ?? false });
  }

  /** A goodbye; returns the moment it began. */
  async leave(): Promise<number> {
    const atMs = now();
    await this.#command({ kind: 'disconnect' });
    return atMs;
  }

  /** The SDK throws its session away and builds a new one. */
  fullReconnect(): Promise<void> {
    return this.simulate('full reconnect');
  }

  async simulate(scenario: Scenario): Promise<void> {
    await this.#command({ kind: 'simulate', scenario });
  }

  /** A crash: no goodbye of any kind; returns its moment. */
  async crash(): Promise<number> {
    const gone = once(this.#child, 'exit');
    const atMs = now();
    this.#child.kill('SIGKILL');
    await gone;
    return atMs;
  }

  get alive(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** Ends the process, whatever state it is in. */
  async end(): Promise<void> {
    if (this.alive) await this.crash();
  }

  async #command(command: Command): Promise<void> {
    if (!this.#child.connected) throw new Error(`the participant process is gone, it can't ${command.kind}`);
    this.#child.send(command);
    const answer = await this.#answer();
    if (answer.kind === 'failed') throw new Error(`participant could not ${command.kind}: ${answer.error}`);
  }

  #answer(): Promise<Answer> {
    return eventually('the participant process to answer', COMMAND_TIMEOUT_MS, () => {
      if (!this.alive) throw new Error('the participant process is gone');
      return this.#answers.shift();
    });
  }
}
