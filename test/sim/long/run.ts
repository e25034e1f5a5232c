// Plays worlds in a process of its own, as `npm run simulate` does, and reads what it says.
import { spawn } from 'node:child_process';
import path from 'node:path';

const SIMULATE = path.resolve(import.meta.dirname, '../simulate.ts');
const MUTATE = path.resolve(import.meta.dirname, '../mutate.ts');

export interface Said {
  readonly code: number | null;
  readonly text: string;
}

export async function simulate(args: readonly string[], mutant?: string): Promise<Said> {
  const preload = mutant === undefined ? [] : ['--import', MUTATE];
  const env = { ...process.env, ...(mutant === undefined ? {} : { LASTWILL_MUTANT: mutant }) };
  const child = spawn(process.execPath, [...preload, SIMULATE, ...args], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  let text = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (text += chunk));
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
  return { code, text };
}
