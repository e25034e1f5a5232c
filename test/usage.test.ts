// The commands of package.json that take options.
import { spawnSync } from 'node:child_process';
import { resolve } from 'node:path';
import { describe, expect, test } from 'vitest';

describe.each([
  ['npm run chaos', 'chaos/chaos.ts', ['--replicas', '--seed']],
  ['npm run simulate', 'sim/simulate.ts', ['--seeds', '--trace']],
  ['npm run bench', 'bench/bench.ts', ['--quick', 'micro']],
])('%s', (command, script, parts) => {
  const ended = (option: string) =>
    spawnSync(process.execPath, [resolve(import.meta.dirname, script), option], { encoding: 'utf8', timeout: 15_000 });

  test('tells what it takes', () => {
    const { status, stdout, stderr } = ended('--help');
    expect([status, stderr]).toEqual([0, '']);
    for (const part of [command, ...parts]) expect(stdout).toContain(part);
  });

  test('an option that there is not is an error, with what there is', () => {
    const { status, stdout, stderr } = ended('--hepl');
    expect([status, stdout]).toEqual([2, '']);
    expect(stderr).toMatch(/--hepl[\s\S]*npm run/);
    expect(stderr).not.toContain('    at ');
  });
});
