// lastwill as a process of its own, on a free port, its log kept out of the story.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { resolve } from 'node:path';
import type { FakeSfu } from '../support/fake-sfu.ts';

export interface Lastwill {
  readonly url: string;
  /** Fails with what it answered, unless it takes the delegation. */
  delegate(participantToken: string, delegation: unknown): Promise<void>;
  stop(): Promise<void>;
}

const MAIN = resolve(import.meta.dirname, '../../src/main.ts');
const LONGEST_START_MS = 10_000;
const LONGEST_STOP_MS = 3_000;

export async function startLastwill({ dataDir, sfu }: { dataDir: string; sfu: FakeSfu }): Promise<Lastwill> {
  const env = {
    PATH: process.env.PATH ?? '',
    NODE_ENV: 'development',
    LIVEKIT_URL: sfu.url,
    LIVEKIT_KEY: sfu.key,
    LIVEKIT_SECRET: sfu.secret,
    LIVEKIT_JWT_BIND: '127.0.0.1:0',
    LASTWILL_DATA_DIR: dataDir,
  };
  const child = spawn(process.execPath, [MAIN], { cwd: dataDir, env, stdio: ['ignore', 'pipe', 'pipe'] });
  const exited = once(child, 'exit');
  let log = '';
  const stop = async (): Promise<void> => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.kill('SIGTERM');
    const insist = setTimeout(() => child.kill('SIGKILL'), LONGEST_STOP_MS);
    await exited;
    clearTimeout(insist);
  };
  const port = await new Promise<number>((found, failed) => {
    const give = (why: string): void => failed(new Error(`lastwill ${why}\n${log}`));
    const tooLong = setTimeout(() => give('did not start in time'), LONGEST_START_MS);
    const read = (chunk: Buffer): void => {
      log += chunk;
      const line = log.split('\n').find((one) => one.startsWith('{') && one.includes('"listening"') && one.endsWith('}'));
      if (line === undefined) return;
      clearTimeout(tooLong);
      found((JSON.parse(line) as { port: number }).port);
    };
    child.stdout.on('data', read);
    child.stderr.on('data', read);
    child.once('error', (error) => give(error.message));
    child.once('exit', (code) => give(`ended with exit code ${code}`));
  }).catch(async (error: unknown) => {
    await stop();
    throw error;
  });
  const url = `http://127.0.0.1:${port}`;
  return {
    url,
    async delegate(participantToken, delegation) {
      const headers = { authorization: `Bearer ${participantToken}`, 'content-type': 'application/json' };
      const response = await fetch(`${url}/v1/delegations`, { method: 'POST', headers, body: JSON.stringify(delegation) });
      const text = await response.text();
      if (response.status !== 201) throw new Error(`lastwill did not take the delegation: ${response.status} ${text}`);
    },
    stop,
  };
}
