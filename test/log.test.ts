import { describe, expect, test } from 'vitest';
import { createLogger } from '../src/log.ts';

function recorder(level: 'debug' | 'info' = 'debug') {
  const lines: string[] = [];
  return {
    lines,
    log: createLogger(level, (line) => lines.push(line)),
    last: () => JSON.parse(lines.at(-1) ?? '{}') as Record<string, unknown>,
  };
}

const JWT = 'eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJodW50ZXIyIn0.hunter2hunter2';

class Telling {
  readonly name = 'telling';
  toJSON(): string {
    return `hunter2 of ${this.name}`;
  }
}

const SECRETS: [string, object][] = [
  [
    'a field by name',
    { token: 'hunter2', delay_id: 'hunter2', asToken: 'hunter2', Authorization: 'hunter2', 'x-secret': 'hunter2', key: 'hunter2' },
  ],
  ['a field deep inside', { a: [{ b: { send_token: 'hunter2' } }] }],
  ['handles as a whole', { handles: { kind: 'delay', delayId: 'hunter2' } }],
  ['a delay id in a path', { url: 'https://hs/_matrix/client/v1/delayed_events/hunter2/send?user_id=@a:b' }],
  ['a future token in a path', { url: new URL('https://hs/_matrix/client/v1/future/hunter2') }],
  ['a token in a query', { url: 'https://hs/userinfo?access_token=hunter2&x=1' }],
  ['a header in text', { text: 'Authorization: Bearer hunter2' }],
  ['a password in a URL', { text: 'redis://user:hunter2@cache' }],
  ['a JWT anywhere', { text: `got ${JWT}.` }],
  ['a JWT in a longer word', { text: `a.b.x-${JWT}.c, eyJ.${JWT}, ${JWT}.${JWT}` }],
  ['a map', { map: new Map([['url', 'x?token=hunter2']]) }],
  ['bytes', { bytes: Buffer.from('hunter2') }],
  ['an error', { err: new Error('GET /delayed_events/hunter2 failed', { cause: new Error(`Bearer ${JWT}`) }) }],
  ['what a client hung on an error', { err: Object.assign(new Error('failed'), { request: { headers: ['hunter2'] } }) }],
  ['what an object would say of itself', { one: { toJSON: () => 'hunter2' }, other: new Telling() }],
  ['an error in place of the fields', new Error('token=hunter2')],
];

describe('log', () => {
  test('a name that a stranger chose moves no cursor, colours nothing, turns no text and begins no line', () => {
    const { log, lines, last } = recorder();
    const identity = '@eve:example.org:\u001b[31m\u009b31m\u0085\u007f\r\n\u2028\u2029\u202e\u2066\u200f\u061c é 日本 \u{1f600}';
    log.info({ identity }, 'happened');
    expect(lines.join('')).not.toMatch(/[^\P{C}\n]|[\u2028\u2029]/u);
    expect(lines.join('').split('\n')).toHaveLength(2);
    expect(lines.join('')).toContain(' é 日本 \u{1f600}');
    expect(last().identity).toBe(identity);
  });

  test.each(SECRETS)('%s is taken out', (_, fields) => {
    const { log, lines } = recorder();
    log.info(fields, 'happened');
    expect(lines).toHaveLength(1);
    expect(lines.join('')).not.toContain('hunter2');
    expect(lines.join('')).not.toContain(Buffer.from('hunter2').join());
  });

  test('what is handed in stays as it is', () => {
    const { log } = recorder();
    const fields = { a: [{ token: 'hunter2', n: 1n }], b: { text: 'Bearer hunter2' } };
    log.info(fields, 'happened');
    expect(fields).toEqual({ a: [{ token: 'hunter2', n: 1n }], b: { text: 'Bearer hunter2' } });
  });

  test('a message is scrubbed as well', () => {
    const { log, last } = recorder();
    log.warn({}, `refused ${JWT}`);
    expect(last().msg).toBe('refused (hidden)');
  });

  test('what is no secret stays readable', () => {
    const { log, last } = recorder();
    log.info({ id: 'dg_1', room: 'r', identity: '@a:b:D', sid: 'PA_1', attempt: 2, none: null, at: new Date(0), n: 1n }, 'left');
    expect(last()).toMatchObject({
      level: 'info',
      id: 'dg_1',
      room: 'r',
      identity: '@a:b:D',
      sid: 'PA_1',
      attempt: 2,
      none: null,
      n: '1',
      msg: 'left',
    });
    log.error({ err: Object.assign(new TypeError('no'), { code: 'ECONNREFUSED' }) }, 'failed');
    expect(last().err).toMatchObject({ type: 'TypeError', message: 'no', code: 'ECONNREFUSED' });
  });

  test('a ring of objects ends', () => {
    const ring: Record<string, unknown> = {};
    ring.ring = ring;
    const { log, lines } = recorder();
    log.info(ring, 'round');
    expect(lines[0]).toContain('(deep)');
  });

  test('a long text of a stranger, full of what begins like a secret, holds nobody up', () => {
    const text = '-eyJaaaaa'.repeat(30_000);
    const { log, last } = recorder();
    const startMs = performance.now();
    log.info({ identity: text }, 'joined');
    expect(last().identity).toBe(text);
    expect(performance.now() - startMs).toBeLessThan(1_000);
  });

  test('below the level nothing is written', () => {
    const { log, lines } = recorder('info');
    log.debug({}, 'quiet');
    expect(lines).toEqual([]);
  });
});
