// What an operator copies from deploy/ and the README, read as the tools will read it: it parses, fits together, and starts.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { Registry } from 'prom-client';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { readConfig } from '../src/config/config.ts';
import type { ServerName } from '../src/delegation/ids.ts';
import { createMetrics, METRICS } from '../src/metrics.ts';
import { createHarness } from './http/harness.ts';

const ROOT = path.resolve(import.meta.dirname, '..');
const read = (file: string): string => readFileSync(path.join(ROOT, file), 'utf8');
const YAML = readdirSync(path.join(ROOT, 'deploy')).filter((name) => name.endsWith('.yaml'));
const documentsOf = (name: string) => parseAllDocuments(read(`deploy/${name}`), { strict: true, uniqueKeys: true });
const parsed = <T>(name: string): T => documentsOf(name)[0]?.toJS() as T;

test.each(YAML)('%s is YAML, without a warning', (name) => {
  const documents = documentsOf(name);
  expect(documents.flatMap(({ errors, warnings }) => [...errors, ...warnings])).toEqual([]);
  expect(documents).toHaveLength(1);
});

describe('HEALTHCHECK of the image', () => {
  const command = JSON.parse(/^HEALTHCHECK[^[]*(\[.*\])$/m.exec(read('deploy/Dockerfile'))?.[1] ?? '[]') as string[];
  let server: Server;
  beforeAll(async () => {
    server = createServer((request, response) => response.writeHead(request.url === '/healthz' ? 200 : 404).end()).listen(0, '127.0.0.1');
    await once(server, 'listening');
  });
  afterAll(() => void server.close());

  /** PORT is where somebody answers. */
  async function exitCode(settings: Record<string, string>): Promise<number | null> {
    const port = String((server.address() as AddressInfo).port);
    const env = Object.fromEntries(Object.entries(settings).map(([name, value]) => [name, value.replace('PORT', port)]));
    const child = spawn(process.execPath, command.slice(1), { cwd: ROOT, env, stdio: 'ignore' });
    const [code] = (await once(child, 'exit')) as [number | null];
    return code;
  }

  test.each([
    { LIVEKIT_JWT_BIND: ':PORT' },
    { LIVEKIT_JWT_BIND: '127.0.0.1:PORT' },
    { LIVEKIT_JWT_BIND: '0.0.0.0:PORT' },
    { LIVEKIT_JWT_BIND: 'localhost:PORT' },
    { LIVEKIT_JWT_BIND: '[::ffff:127.0.0.1]:PORT' },
    { LIVEKIT_JWT_PORT: 'PORT' },
    { LIVEKIT_JWT_BIND: ':PORT', LIVEKIT_JWT_PORT: 'tcp://10.43.219.85:8080' },
  ])('asks where %j has it listen', async (settings) => {
    expect(await exitCode(settings as Record<string, string>)).toBe(0);
  });

  test('says so where nobody answers', async () => {
    expect(await exitCode({ LIVEKIT_JWT_BIND: '127.0.0.1:1' })).toBe(1);
  });
});

describe('alerts.yaml', () => {
  interface Rule {
    readonly alert: string;
    readonly expr: string;
    readonly labels: { readonly severity: string };
    readonly annotations: { readonly summary: string };
  }
  const rules = parsed<{ groups: { rules: Rule[] }[] }>('alerts.yaml').groups.flatMap((group) => group.rules);
  const described = new Map(Object.values(METRICS).map((metric) => [metric.name as string, metric]));
  const selectorsIn = (expr: string) =>
    [...expr.matchAll(/(lastwill_[a-z_]+)(?:\{([^}]*)\})?/g)].map(([, name = '', matchers = '']) => ({
      name,
      labels: [...matchers.matchAll(/([a-z_]+)(=~?|!=)"([^"]*)"/g)].map(([, label = '', how = '', value = '']) => ({ label, how, value })),
    }));

  test('has a name, a severity and a summary for each', () => {
    expect(rules.length).toBeGreaterThan(5);
    expect(new Set(rules.map(({ alert }) => alert)).size).toBe(rules.length);
    for (const { labels, annotations } of rules) {
      expect(['critical', 'warning']).toContain(labels.severity);
      expect(annotations.summary).not.toBe('');
    }
  });

  test('asks for labels that the metrics have, and names in its words only those that are left', () => {
    for (const { alert, expr, annotations } of rules) {
      const selectors = selectorsIn(expr);
      const has = selectors.flatMap(({ name }) => described.get(name)?.labels ?? []);
      for (const { label } of selectors.flatMap(({ labels }) => labels)) expect(has, alert).toContain(label);
      const by = [...expr.matchAll(/by \(([a-z_, ]+)\)/g)].flatMap(([, names = '']) => names.split(/, */));
      for (const label of by) expect(has, alert).toContain(label);
      for (const [, label] of annotations.summary.matchAll(/\$labels\.([a-z_]+)/g)) expect(by, alert).toContain(label);
      expect([...expr].filter((one) => one === '(').length, alert).toBe([...expr].filter((one) => one === ')').length);
    }
  });

  test('hears of the first time: what an increase is asked of is there from the start', async () => {
    const registry = new Registry();
    const homeservers = { fullAccess: { all: false, names: ['example.org' as ServerName] }, overrides: new Map() };
    createMetrics(registry, { process: false, homeservers });
    const series = (await registry.metrics()).split('\n');
    const asked = rules.flatMap(({ alert, expr }) =>
      [...expr.matchAll(/increase\(([^[]+)\[/g)].flatMap(([, inner = '']) => selectorsIn(inner)).map((one) => ({ alert, ...one })),
    );
    expect(asked.length).toBeGreaterThan(5);
    // `=~` with words only: each of them; `!=` is no promise that anything is there.
    const isThere = ({ name, labels }: (typeof asked)[number]) =>
      labels
        .filter(({ how }) => how !== '!=')
        .reduce(
          (lines, { label, value }) =>
            value.split('|').every((word) => lines.some((line) => line.includes(`${label}="${word}"`)))
              ? lines.filter((line) => value.split('|').some((word) => line.includes(`${label}="${word}"`)))
              : [],
          series.filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `)),
        ).length > 0;
    expect(asked.filter((one) => !isThere(one))).toEqual([]);
    expect(series.join('\n')).toMatch(/^lastwill_homeserver_failures_total\{homeserver="example.org",why="limited"\} 0$/m);
  });
});

/** What the image sets. */
const IMAGE = Object.fromEntries(
  [...read('deploy/Dockerfile').matchAll(/^(?:ENV| {3}) ([A-Z_]+)=(\S+)/gm)].map(([, name = '', value = '']) => [name, value]),
);

function expectComplete(env: Record<string, string>): void {
  const started = readConfig(env, () => 'of-a-file-of-enough-characters');
  expect(started).toMatchObject({ kind: 'config', config: { mode: 'production' } });
  expect(started.notes.filter((note) => !/^LASTWILL_STORE_KEY is not set|^LIVEKIT_REDIS_URL:/.test(note))).toEqual([]);
}

interface Compose {
  readonly services: Record<
    string,
    { environment?: Record<string, string>; volumes?: string[]; build?: { dockerfile: string; context: string } }
  >;
  readonly secrets?: Record<string, { file: string }>;
}

test('a stack, which builds nothing, is deployed of an image that compose has built', () => {
  const { lastwill } = parsed<Compose>('compose-replicas.yaml').services;
  expect(lastwill).toMatchObject({ image: 'lastwill', deploy: { replicas: 3 } });
});

describe.each(['compose.yaml', 'compose-replicas.yaml'])('%s', (name) => {
  const { services, secrets = {} } = parsed<Compose>(name);
  const GIVEN: Record<string, string> = { SERVER_NAME: 'example.org', LIVEKIT_URL: 'wss://sfu.example.org', NODE_IP: '192.0.2.7' };
  const filled = (text: string) => text.replace(/\$\{([A-Z_]+):\?[^}]*\}/g, (_, variable: string) => GIVEN[variable] ?? 'c0ffee'.repeat(8));

  test('configures lastwill with all it needs, and nothing unknown', () => {
    const given = Object.entries(services.lastwill?.environment ?? {}).map(([variable, value]) => [variable, filled(value)]);
    expectComplete({ ...IMAGE, ...Object.fromEntries(given) });
    for (const [, value] of given) expect(value).not.toContain('$');
  });

  test('mounts and builds what is there', () => {
    const mounted = Object.values(services).flatMap(({ volumes = [] }) => volumes.map((volume) => volume.split(':')[0] ?? ''));
    for (const file of mounted.filter((one) => one.startsWith('.'))) expect(existsSync(path.join(ROOT, 'deploy', file)), file).toBe(true);
    const build = services.lastwill?.build;
    expect(existsSync(path.join(ROOT, 'deploy', build?.context ?? '', build?.dockerfile ?? ''))).toBe(true);
  });

  test('hands over the secrets that it names', () => {
    const named = Object.values(services.lastwill?.environment ?? {}).filter((value) => value.startsWith('/run/secrets/'));
    expect(named.map((file) => path.basename(file)).sort()).toEqual(Object.keys(secrets).sort());
  });
});

test('the SFU of compose.yaml signs with a key of lastwill, and sends to where it listens', () => {
  const { livekit, lastwill } = parsed<Compose>('compose.yaml').services;
  const { webhook } = parsed<{ webhook: { api_key: string; urls: string[] } }>('livekit.yaml');
  expect([webhook.api_key, livekit?.environment?.LIVEKIT_KEYS?.split(':')[0]]).toEqual(Array(2).fill(lastwill?.environment?.LIVEKIT_KEY));
  expect(webhook.urls).toEqual(['http://lastwill:8080/sfu_webhook']);
});

test('the unit gives the service what it needs, by files that it is given', () => {
  const unit = read('deploy/lastwill.service');
  const pairs = [...unit.matchAll(/^Environment=(.*)$/gm)].flatMap(([, text = '']) => text.split(' ').map((pair) => pair.split('=')));
  const settings = Object.fromEntries(pairs.filter(([name = '']) => /^(LASTWILL|LIVEKIT|NODE_ENV)/.test(name))) as Record<string, string>;
  const [, written = ''] = /lastwill\.env\n# \(([A-Z_, ]+)\)/.exec(unit) ?? [];
  const values: Record<string, string> = { LIVEKIT_URL: 'wss://sfu.example.org', LIVEKIT_KEY: 'k', LIVEKIT_FULL_ACCESS_HOMESERVERS: '*' };
  const file = Object.fromEntries(written.split(', ').map((name) => [name, values[name] ?? '']));
  expectComplete({ ...file, ...settings });
  const credentials = [...unit.matchAll(/^LoadCredential=([^:]+):/gm)].map(([, name]) => `%d/${name}`);
  expect(Object.values(settings).filter((value) => value.startsWith('%d/'))).toEqual(credentials);
});

test('the image copies what is there and let through', () => {
  const wanted = [...read('deploy/Dockerfile').matchAll(/^COPY (?!--)(.+) \S+$/gm)].flatMap(([, sources = '']) => sources.split(' '));
  const letThrough = read('deploy/Dockerfile.dockerignore').split('\n');
  expect(wanted).toContain('src');
  for (const source of wanted) {
    expect(existsSync(path.join(ROOT, source)), source).toBe(true);
    expect(letThrough).toContain(`!${source}`);
  }
});

describe('the reverse proxies of the README', () => {
  const readme = read('README.md');
  const PREFIX = '/livekit/jwt';
  const PUBLIC = ['/get_token', '/sfu/get', '/delegate_delayed_leave', '/v1/delegations', '/v1/delegations/an-id', '/healthz'];
  const PRIVATE = ['/', '/metrics', '/readyz', '/sfu_webhook', '/v1/webhook', '/_matrix/app/v1/ping', '/v1/delegationsx', '/get_token/x'];

  function expectForwarded(forwarded: (wanted: string) => string | null): void {
    expect(PUBLIC.map((one) => forwarded(`${PREFIX}${one}`))).toEqual(PUBLIC);
    expect(PRIVATE.filter((one) => forwarded(`${PREFIX}${one}`) !== null)).toEqual([]);
    expect(PUBLIC.filter((one) => forwarded(one) !== null)).toEqual([]);
  }

  test('Caddy forwards what clients ask, and nothing else', () => {
    const [, prefix = '', block = ''] = /handle_path (\S+)\/\* \{\n([\s\S]*?)\n {2}\}/.exec(readme) ?? [];
    const [, list = ''] = /@public path (.*)/.exec(block) ?? [];
    const matches = (one: string) =>
      list.split(' ').some((word) => (word.endsWith('*') ? one.startsWith(word.slice(0, -1)) : one === word));
    // In a block Caddy tries directives in an order of its own, not as they are written.
    const CADDYS_ORDER = ['handle', 'respond', 'reverse_proxy'];
    const directives = [...block.matchAll(/^ {4}(handle|respond|reverse_proxy) ?(@public)?(?: \{\n {6}(\w+))?/gm)]
      .map(([, name = '', matcher, within]) => ({ name, matcher, does: within ?? name }))
      .sort((a, b) => CADDYS_ORDER.indexOf(a.name) - CADDYS_ORDER.indexOf(b.name));
    expect(directives).toHaveLength(2);
    expectForwarded((wanted) => {
      const rest = wanted.startsWith(`${prefix}/`) ? wanted.slice(prefix.length) : null;
      if (rest === null) return null;
      const first = directives.find(({ matcher }) => matcher === undefined || matches(rest));
      return first?.does === 'reverse_proxy' ? rest : null;
    });
  });

  test('nginx forwards the same', () => {
    const [, location = ''] = /^location ~ (\S+) \{$/m.exec(readme) ?? [];
    const [, rewritten = ''] = /^ {2}rewrite (\S+) \$1 break;$/m.exec(readme) ?? [];
    expectForwarded((wanted) => (new RegExp(location).test(wanted) ? (new RegExp(rewritten).exec(wanted)?.[1] ?? null) : null));
  });

  test('and all of it is there', async () => {
    const at = createHarness();
    for (const one of PUBLIC) expect((await at.ask('GET', one)).text, one).not.toContain('No such endpoint');
    for (const one of PUBLIC) expect(readme).toContain(one.replace('/an-id', ''));
    await at.close();
  });
});
