// The ways to a real Redis that operators have: a password, a user with few rights, TLS by a CA of their own, another database.
import { execFile, execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { startCluster } from '../replicas/topologies.ts';
import { KINDS, NO_REDIS, RedisServer } from '../support/redis-server.ts';

const VISITOR = path.join(import.meta.dirname, 'stack/redis-visitor.ts');
/** As the README has them. */
const RIGHTS = ['~lastwill*', '+@read', '+@write', '+@scripting', '+@connection', '+time', '-@dangerous'];
const NO_OPENSSL = spawnSync('openssl', ['version']).status !== 0;

async function visit(url: string, env: Readonly<Record<string, string>> = {}): Promise<string> {
  const { stdout } = await promisify(execFile)(process.execPath, [VISITOR, url], { env: { PATH: process.env.PATH ?? '', ...env } });
  return stdout.trim();
}

for (const { name, binary, missing } of KINDS)
  describe.skipIf(missing !== null)(`a real ${name}${missing === null ? '' : `: ${missing}`}`, { sequential: true }, () => {
    let server: RedisServer | null = null;
    afterEach(async () => {
      await server?.end();
      server = null;
    });
    const start = async (...args: string[]): Promise<string> => {
      server = await RedisServer.start(args, undefined, binary);
      return `127.0.0.1:${server.port}`;
    };

    test('a password in the URL or beside it; without it, or with another, nothing, and it is not told', async () => {
      const at = await start('--requirepass', 'right-password');
      expect(await visit(`redis://:right-password@${at}`)).toMatch(/^kept 1;/);
      expect(await visit(`redis://${at}`, { LIVEKIT_REDIS_PASSWORD: 'right-password' })).toMatch(/^kept 1;/);
      for (const answer of await Promise.all([visit(`redis://${at}`), visit(`redis://:wrong-password@${at}`)])) {
        expect(answer).toMatch(/^refused: (NOAUTH|WRONGPASS)/);
        expect(answer).not.toContain('wrong-password');
      }
    });

    test('a user who may touch our keys only, and ask for no settings', async () => {
      const at = await start('--user', 'default', 'off', '--user', 'lastwill', 'on', '>its-password', ...RIGHTS);
      expect(await visit(`redis://lastwill:its-password@${at}`)).toMatch(/^kept 1; .*CONFIG GET is refused/);
      expect(await visit(`redis://stranger:its-password@${at}`)).toMatch(/^refused: .*WRONGPASS/);
    });

    test('another database', async () => {
      const at = await start();
      expect(await visit(`redis://${at}/3`)).toMatch(/^kept 1;/);
      expect(String(await server?.ask('INFO', 'keyspace'))).toMatch(/^# Keyspace\r\ndb3:keys=\d+/);
    });

    describe.skipIf(NO_OPENSSL)(`TLS${NO_OPENSSL ? ': there is no openssl here' : ''}`, () => {
      let folder: string;
      const file = (of: string): string => path.join(folder, of);
      beforeAll(() => {
        folder = mkdtempSync(path.join(tmpdir(), 'lastwill-tls-'));
        const openssl = (...args: string[]) => execFileSync('openssl', args, { cwd: folder, stdio: 'ignore' });
        const fresh = ['req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
        openssl(...fresh, '-x509', '-days', '1', '-subj', '/CN=own CA', '-keyout', 'ca.key', '-out', 'ca.crt');
        openssl(...fresh, '-subj', '/CN=redis', '-addext', 'subjectAltName=IP:127.0.0.1', '-keyout', 'key', '-out', 'request');
        const sign = ['x509', '-req', '-in', 'request', '-CA', 'ca.crt', '-CAkey', 'ca.key', '-CAcreateserial', '-days', '1'];
        openssl(...sign, '-copy_extensions', 'copy', '-out', 'crt');
      });
      afterAll(() => rmSync(folder, { recursive: true, force: true }));

      test('by a CA that Node is told of, and by no other', async () => {
        const files = ['--tls-cert-file', file('crt'), '--tls-key-file', file('key'), '--tls-ca-cert-file', file('ca.crt')];
        server = await RedisServer.startTls([...files, '--tls-auth-clients', 'no'], binary);
        const url = `rediss://127.0.0.1:${server.tlsPort}`;
        expect(await visit(url, { NODE_EXTRA_CA_CERTS: file('ca.crt') })).toMatch(/^kept 1;/);
        expect(await visit(url)).toMatch(/^refused: .*certificate/);
        expect(await visit(`${url}?skip_verify=true`), 'as go-redis has it').toMatch(/^kept 1;/);
      });
    });
  });

test.skipIf(NO_REDIS !== null)('a user who may touch our keys only, in a cluster', async () => {
  const cluster = await startCluster();
  try {
    for (const node of cluster.servers) await node.ask('ACL', 'SETUSER', 'lastwill', 'on', '>its-password', ...RIGHTS, '+cluster|slots');
    expect(await visit(cluster.url.replace('://', '://lastwill:its-password@'))).toMatch(/^kept 1;/);
  } finally {
    await cluster.end();
  }
});
