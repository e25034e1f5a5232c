// What must be refused, to the letter: the status, the code, and the field that is wrong. Afterwards nothing is stored, nothing was called,
// and neither the answer nor the log holds what was handed over.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createHarness, type Harness, handOverBody, participantToken, SECRETS } from './harness.ts';

let at: Harness;
beforeEach(() => {
  at = createHarness();
  at.engine.start();
});
afterEach(async () => {
  await at.clock.advance(1_000);
  expect(await at.stored()).toBe(0);
  expect(at.homeservers.calls).toEqual([]);
  expect(at.log.join('\n')).not.toMatch(SECRETS);
  expect(await at.registry.metrics()).not.toMatch(SECRETS);
  await at.close();
});

const GRAMMAR = 'must be 1 to 255 of 0-9 A-Z a-z . _ ~ -';
const TIMEOUT = 'must be an integer from 1 to 2678400000';
const HOMESERVER = 'must be a client-server base URL or a server name';
const REFRESH = 'leave.refresh_token is required in leave or in lost: without it the event can not be kept alive';

async function refused(body: unknown, status: number, errcode: string, error: string | RegExp): Promise<void> {
  const reply = await at.post(body);
  expect([reply.status, reply.json]).toEqual([
    status,
    { errcode, error: typeof error === 'string' ? error : expect.stringMatching(error) },
  ]);
  expect(reply.text).not.toMatch(SECRETS);
  expect(await at.metric('lastwill_delegations_total{result="rejected"}')).toBe(1);
}

describe('not JSON', () => {
  test.each([
    ['nothing', ''],
    ['an open brace', '{'],
    ['a trailing comma', '{"homeserver":"https://matrix.example.org",}'],
    ['two values', '{}{}'],
    ['single quotes', "{'a':1}"],
    ['a comment', '{} // secret-x'],
    ['NaN', '{"timeout_ms":NaN}'],
    ['a byte order mark in the middle', '{"a"\ufeff:1}'],
    ['a form', 'homeserver=https%3A%2F%2Fmatrix.example.org'],
    ['HTML', '<html>'],
  ])('%s', async (_name, body) => refused(body, 400, 'M_NOT_JSON', 'The body is not JSON'));

  test.each([
    ['a lone continuation byte', [0x80]],
    ['an overlong form', [0xc0, 0xaf]],
    ['half a surrogate pair', [0xed, 0xa0, 0x80]],
    ['a cut sequence', [0xe2, 0x82]],
    ['a byte of no encoding', [0xff]],
  ])('invalid UTF-8: %s', async (_name, bytes) => {
    const body = Buffer.concat([Buffer.from('{"homeserver":"'), Buffer.from(bytes), Buffer.from('"}')]);
    await refused(body, 400, 'M_NOT_JSON', 'The body is not JSON');
  });

  test('UTF-16', async () => refused(Buffer.from(JSON.stringify(handOverBody()), 'utf16le'), 400, 'M_NOT_JSON', 'The body is not JSON'));

  test('a hundred thousand brackets', async () => refused('['.repeat(60_000), 400, 'M_NOT_JSON', 'The body is not JSON'));
});

describe('the body as a whole', () => {
  test.each([null, 1, 'text', true, [], [handOverBody()]])('%j is no object', async (body) =>
    refused(JSON.stringify(body), 400, 'M_BAD_JSON', 'The body must be an object'),
  );

  test.each(['homeserver', 'leave', 'timeout_ms'])('without %s', async (field) =>
    refused(handOverBody(1, { [field]: undefined }), 400, 'M_BAD_JSON', `${field} is required`),
  );

  test('empty', async () => refused({}, 400, 'M_BAD_JSON', /^(homeserver|leave|timeout_ms) is required$/));

  test.each(['extra', 'delay_id', 'Homeserver', 'room', 'constructor', 'toString', 'hasOwnProperty'])(
    'with an unknown field: %s',
    async (field) => refused(handOverBody(1, { [field]: 'secret-value' }), 400, 'M_BAD_JSON', `${field} is not known`),
  );

  test.each([
    [
      '{"__proto__":{"delay_id":"delay-secret-1"},"homeserver":"https://matrix.example.org","timeout_ms":1}',
      /^(__proto__ is not known|leave is required)$/,
    ],
    ['{"homeserver":"https://matrix.example.org","timeout_ms":1,"leave":{"__proto__":{"delay_id":"delay-secret-1"}}}', /^leave\./],
    [
      '{"homeserver":"https://matrix.example.org","timeout_ms":1,"leave":{"delay_id":"delay-secret-1","__proto__":1}}',
      /^leave\.__proto__ is not known$/,
    ],
  ])('with a prototype: %s', async (body, error) => refused(body, 400, 'M_BAD_JSON', error));

  test('an unknown field is shown short and plain', async () => {
    const name = `a\n\u0000"<script>${'x'.repeat(500)}`;
    await refused(handOverBody(1, { [name]: 1 }), 400, 'M_BAD_JSON', /^a\?\?"<script>x{52} is not known$/);
  });
});

describe('leave and lost', () => {
  const token = { send_token: 'secret-send', refresh_token: 'secret-refresh' };
  test.each<[string, unknown, unknown, string]>([
    ['leave null', null, undefined, 'leave must be an object'],
    ['leave a text', 'secret-x', undefined, 'leave must be an object'],
    ['leave a list', [token], undefined, 'leave must be an object'],
    ['leave empty', {}, undefined, 'leave.send_token is required'],
    ['a delay_id and more', { delay_id: 'secret-x', send_token: 'secret-y' }, undefined, 'leave.send_token is not known'],
    ['a token and more', { ...token, event: 1 }, undefined, 'leave.event is not known'],
    ['no send_token', { refresh_token: 'secret-x' }, undefined, 'leave.send_token is required'],
    ['nothing to refresh with', { send_token: 'secret-x' }, undefined, REFRESH],
    ['nothing to refresh with in either', { send_token: 'secret-x' }, { send_token: 'secret-y' }, REFRESH],
    ['lost null', token, null, 'lost must be an object'],
    ['lost empty', token, {}, 'lost.send_token is required'],
    ['lost and more', token, { send_token: 'secret-x', delay_id: 'secret-y' }, 'lost.delay_id is not known'],
    ['lost a delay_id', token, { delay_id: 'secret-x' }, 'lost.send_token is required'],
    ['lost beside a delay_id', { delay_id: 'secret-x' }, token, 'lost goes with tokens only: a delay_id has one ending'],
  ])('%s', async (_name, leave, lost, error) => refused(handOverBody(1, { leave, lost }), 400, 'M_BAD_JSON', error));

  const UNFIT: readonly unknown[] = [
    ...[
      '',
      '.',
      '..',
      'a/b',
      'a%2Fb',
      '%2e%2e',
      '../x',
      'a?b',
      'a#b',
      'a b',
      'a\nb',
      'a\u0000',
      'ä',
      'a+b',
      'a=b',
      'a\\b',
      'a;b',
      'a:b',
      '@a',
    ],
    ...['a'.repeat(256), '\u{1F600}', 1, true, null, [], ['a'], {}],
  ];
  for (const value of UNFIT) {
    const name = JSON.stringify(value).slice(0, 20);
    test(`delay_id ${name}`, async () =>
      refused(handOverBody(1, { leave: { delay_id: value } }), 400, 'M_BAD_JSON', `leave.delay_id ${GRAMMAR}`));
    test(`tokens ${name}`, async () => {
      const fields = ['send_token', 'refresh_token', 'cancel_token'];
      for (const field of fields) {
        const [inLeave, inLost] = [
          handOverBody(1, { leave: { ...token, [field]: value } }),
          handOverBody(1, { leave: token, lost: { ...token, [field]: value } }),
        ];
        for (const [where, body] of [
          ['leave', inLeave],
          ['lost', inLost],
        ] as const) {
          const reply = await at.post(body);
          expect([reply.status, reply.json]).toEqual([400, { errcode: 'M_BAD_JSON', error: `${where}.${field} ${GRAMMAR}` }]);
        }
      }
    });
  }
});

describe('timeout_ms', () => {
  for (const value of [0, -1, -0, 1.5, '1', '', 2_678_400_001, 31_536_000_000, Number.MAX_SAFE_INTEGER, 1e300, null, true, [], [1], {}]) {
    test(`${JSON.stringify(value)}`, async () =>
      refused(handOverBody(1, { timeout_ms: value }), 400, 'M_BAD_JSON', `timeout_ms ${TIMEOUT}`));
  }
  test('beyond any number', async () =>
    refused(
      '{"homeserver":"https://matrix.example.org","leave":{"delay_id":"secret-a"},"timeout_ms":1e999}',
      400,
      'M_BAD_JSON',
      `timeout_ms ${TIMEOUT}`,
    ));
});

describe('homeserver', () => {
  test.each([1, null, true, [], {}, '', 'x'.repeat(2_049)])('%j', async (homeserver) =>
    refused(handOverBody(1, { homeserver }), 400, 'M_BAD_JSON', `homeserver ${HOMESERVER}`),
  );

  test.each([
    'exa mple.org',
    'example.org/path',
    'example.org:0',
    'example.org:99999',
    'example.org:port',
    'user@example.org',
    '[::1',
    '1.2.3.4.5',
    'ftp://example.org',
    'javascript://example.org',
    'https://',
    'https:///example.org',
    'https://user:secret-x@matrix.example.org',
    'https://matrix.example.org?secret-x',
    'https://matrix.example.org#secret-x',
    'https://matrix.example.org\\@evil.example',
    'https://matrix.example.org\n',
    'https://mätrix.example.org',
    '\u0000',
    'x'.repeat(2_048),
  ])('malformed: %j', async (homeserver) => refused(handOverBody(1, { homeserver }), 400, 'M_BAD_JSON', /^homeserver is /));

  test.each([
    'other.org',
    'https://other.org',
    'https://matrix.other.org/example.org',
    'https://matrix.example.org.evil.example',
    'https://evil-example.org',
    'sub.example.org',
    'EXAMPLE.ORG.evil',
    '127.0.0.1',
    'https://127.0.0.1',
    'https://169.254.169.254',
    'https://[::1]',
    'http://matrix.example.org',
    'http://localhost:8008',
  ])('not served: %j', async (homeserver) =>
    refused(handOverBody(1, { homeserver }), 403, 'M_FORBIDDEN', 'homeserver is not one that this service serves'),
  );

  test('served, and not to be found', async () =>
    refused(
      handOverBody(1, { homeserver: 'broken.example.org' }),
      400,
      'M_BAD_JSON',
      'homeserver: unable to resolve its client-server API',
    ));

  test.each([
    'http://matrix.any.org',
    'https://127.0.0.1',
    'https://10.0.0.1',
    'https://0x7f.1',
    'https://[::ffff:10.0.0.1]',
    'http://localhost',
    '169.254.169.254',
  ])('not even where every one is served: %j', async (homeserver) => {
    await at.close();
    at = createHarness({ served: { fullAccess: { all: true, names: [] } } });
    await refused(handOverBody(1, { homeserver }), 403, 'M_FORBIDDEN', 'homeserver is not one that this service serves');
  });
});

describe('too large', () => {
  const LIMIT = 64 * 1024;
  const large = JSON.stringify(handOverBody(1, { padding: 'x'.repeat(LIMIT) }));
  const tooLarge = [413, { errcode: 'M_TOO_LARGE', error: `The body is larger than ${LIMIT} bytes` }];

  test('without its length', async () => {
    const { status, json } = await at.post(large);
    expect([status, json]).toEqual(tooLarge);
  });

  test('with its length', async () => {
    const { status, json } = await at.post(large, { headers: { 'content-length': String(large.length) } });
    expect([status, json]).toEqual(tooLarge);
  });

  test('in pieces, and no more of them are read than needed', async () => {
    let pieces = 0;
    const body = new ReadableStream({
      pull: (controller) => {
        pieces += 1;
        controller.enqueue(new Uint8Array(16 * 1024).fill(0x20));
        if (pieces === 1_000) controller.close();
      },
    });
    const { status, json } = await at.post('', { body });
    expect([status, json]).toEqual(tooLarge);
    expect(pieces).toBeLessThan(10);
  });

  test('is refused before anyone is asked who it is', async () => {
    const { status } = await at.ask('POST', '/v1/delegations', { body: large });
    expect(status).toBe(413);
  });

  test('by one byte, with white space', async () => {
    const { status } = await at.post(`${' '.repeat(LIMIT)}{`);
    expect(status).toBe(413);
  });
});

describe('order', () => {
  test('who it is comes before what it says', async () => {
    const reply = await at.ask('POST', '/v1/delegations', { body: '{' });
    expect([reply.status, reply.json.errcode]).toEqual([401, 'M_UNAUTHORIZED']);
  });

  test('a token in the URL or the body is none', async () => {
    const token = await participantToken();
    const reply = await at.ask('POST', `/v1/delegations?access_token=${token}`, { body: JSON.stringify(handOverBody()) });
    expect(reply.status).toBe(401);
  });
});
