import fc from 'fast-check';
import { expect, it } from 'vitest';
import { parse } from 'yaml';
import { parseKeyFile } from '../../src/config/key-file.ts';

const LINES = [
  'key1: secret',
  'key1 : secret',
  'key1:\tsecret',
  '  key1: secret  ',
  '"key1": "secret"',
  "'key1': 'secret'",
  'key1: secret # of the SFU',
  '"key1": "secret" # of the SFU',
  '---\nkey1: secret',
  '# ours\n--- # begins\n\nkey1: secret\r\n',
  'key1: se#cret',
  'key1: one:two',
  'key1: "se # cret"',
  'key1: "a\\"b\\\\c"',
  "key1: 'it''s'",
  'key#1: secret',
  '"key:1": secret',
  'key1: one\nkey2: two # second',
];

it.each(LINES)('reads %j as the SFU does', (text) => {
  expect(parseKeyFile(text)).toEqual({
    keys: Object.entries(parse(text) as Record<string, string>).map(([key, secret]) => ({ key, secret })),
    faults: [],
  });
});

it('reads a pair without a space as lk-jwt-service does', () => {
  expect(parseKeyFile('key1:secret\n').keys).toEqual([{ key: 'key1', secret: 'secret' }]);
});

it.each([
  'key1',
  'key1:',
  'key1: # hush',
  'key1: "hush',
  'key1: "hush" hush',
  'key1: hush hush',
  'key1: "\\xhush"',
  '"": hush',
  "key1: ''",
  'key1: |',
  'key1: >-',
  ': hush',
  '{key1: hush, key2: hush}',
  '{key1: hush}',
])('refuses %j, and shows nothing of it', (line) => {
  const { keys, faults } = parseKeyFile(`first: one\n${line}`);
  expect(keys).toEqual([{ key: 'first', secret: 'one' }]);
  expect(faults).toEqual(['only lines of the form "key: secret" (line 2 is not)']);
});

it('takes one document, as the SFU does', () => {
  expect(parseKeyFile('first: one\n---\nsecond: two').faults).toEqual(['only lines of the form "key: secret" (line 2 is not)']);
});

it('takes a key once, however it is quoted', () => {
  expect(parseKeyFile('first: one\n"first": two').faults).toEqual(['each key once (line 2 repeats one)']);
});

it('needs a pair, and never throws', () => {
  expect(parseKeyFile('# nothing\n')).toEqual({ keys: [], faults: ['at least one line of the form "key: secret"'] });
  fc.assert(fc.property(fc.string(), (text) => void parseKeyFile(text)));
});
