import { mkdtempSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { hostsFile } from '../../src/dns/hosts-file.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'hosts-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

test('its names are known, and nothing else of it', () => {
  const file = path.join(folder, 'hosts');
  writeFileSync(
    file,
    '127.0.0.1\tlocalhost\n\n# 10.0.0.1 old.test\n 10.0.0.2  Synapse.test synapse # and more.test\r\n::1 ip6-localhost\n10.0.0.3\n',
  );
  const isIn = hostsFile(file);
  for (const host of ['localhost', 'synapse.test', 'synapse', 'ip6-localhost']) expect(isIn(host), host).toBe(true);
  for (const host of ['old.test', 'more.test', '10.0.0.2', '10.0.0.3', '127.0.0.1', '#', '', 'and', 'test'])
    expect(isIn(host), host).toBe(false);
});

test('a change is seen, and the file may come and go', () => {
  const file = path.join(folder, 'hosts');
  const isIn = hostsFile(file);
  expect(isIn('a.test')).toBe(false);
  writeFileSync(file, '10.0.0.1 a.test');
  expect(isIn('a.test')).toBe(true);
  writeFileSync(file, '10.0.0.1 b.test');
  utimesSync(file, 1_000, 1_000);
  expect([isIn('a.test'), isIn('b.test')]).toEqual([false, true]);
  rmSync(file);
  expect(isIn('b.test')).toBe(false);
});

test('what can not be read as one has no names', () => {
  expect(hostsFile(folder)('a.test')).toBe(false);
});
