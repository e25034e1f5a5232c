// A real Synapse whose OpenID tokens a service can check and which can federate: its server name carries the port of a TLS listener
// with a certificate of its own making, so that neither DNS nor .well-known is needed to find it. It names the service under test
// as its MatrixRTC transport in every way that clients look for one.
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Credentials } from '../browser/page/contract.ts';
import type { Json } from './matrix.ts';
import { freePort, Server, synapsePython } from './processes.ts';

const UNLIMITED = { per_second: 1000, burst_count: 1000 };

const REGISTRATION = 'lastwill-registration.yaml';

const MAKE_CERTIFICATE = `
import datetime, ipaddress
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
key = ec.generate_private_key(ec.SECP256R1())
name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "localhost")])
today = datetime.datetime.now(datetime.timezone.utc)
names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
certificate = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    .serial_number(x509.random_serial_number()).not_valid_before(today - datetime.timedelta(days=1))
    .not_valid_after(today + datetime.timedelta(days=2)).add_extension(names, critical=False).sign(key, hashes.SHA256()))
open("tls.crt", "wb").write(certificate.public_bytes(serialization.Encoding.PEM))
open("tls.key", "wb").write(key.private_bytes(serialization.Encoding.PEM,
    serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
`;

export interface HomeserverOptions {
  /** The MatrixRTC authorization service that it tells clients of. */
  readonly serviceUrl: string;
  /** Where others are told to reach it, if not at its own port. */
  readonly publicUrl?: string;
  /** Makes the registration of an application service for that server name; requests under its prefix are then passed on to it. */
  readonly registration?: (serverName: string) => string;
}

export class Homeserver {
  readonly url: string;
  readonly serverName: string;
  readonly logFile: string;
  readonly registrationFile: string;
  readonly #dir: string;
  #server: Server | undefined;

  private constructor(url: string, serverName: string, dir: string) {
    this.url = url;
    this.serverName = serverName;
    this.logFile = join(dir, 'homeserver.log');
    this.registrationFile = join(dir, REGISTRATION);
    this.#dir = dir;
  }

  /** Same database, same ports. */
  async startAgain(): Promise<void> {
    this.#server = new Server('Synapse', synapsePython, ['-m', 'synapse.app.homeserver', '--config-path', 'homeserver.yaml'], {
      cwd: this.#dir,
      logFile: join(this.#dir, 'output.log'),
    });
    await this.#server.ready(60_000, async () => (await fetch(`${this.url}/_matrix/client/versions`)).ok);
  }

  static async start({ serviceUrl, publicUrl, registration }: HomeserverOptions): Promise<Homeserver> {
    const [port, tlsPort] = [await freePort(), await freePort()];
    const dir = mkdtempSync(join(tmpdir(), 'lastwill-e2e-synapse-'));
    const made = spawnSync(synapsePython, ['-c', MAKE_CERTIFICATE], { cwd: dir, encoding: 'utf8' });
    if (made.status !== 0) throw new Error(`no certificate for Synapse: ${made.stderr}`);
    const url = `http://127.0.0.1:${port}`;
    const serverName = `localhost:${tlsPort}`;
    if (registration !== undefined) writeFileSync(join(dir, REGISTRATION), registration(serverName));
    writeConfiguration(dir, { url: publicUrl ?? url, serverName, port, tlsPort, serviceUrl, proxies: registration !== undefined });
    const homeserver = new Homeserver(url, serverName, dir);
    await homeserver.startAgain();
    return homeserver;
  }

  /** Takes connections, answers nothing. */
  freeze(): void {
    this.#server?.signal('SIGSTOP');
  }

  thaw(): void {
    this.#server?.signal('SIGCONT');
  }

  async kill(): Promise<void> {
    await this.#server?.kill();
  }
}

/** A new user of the homeserver at that URL. */
export async function register(url: string, name: string): Promise<Credentials> {
  const response = await fetch(`${url}/_matrix/client/v3/register`, {
    method: 'POST',
    body: JSON.stringify({
      username: `${name}-${randomBytes(4).toString('hex')}`,
      password: randomBytes(16).toString('hex'),
      device_id: name.toUpperCase(),
      auth: { type: 'm.login.dummy' },
    }),
  });
  const answer = (await response.json()) as Json;
  if (!response.ok) throw new Error(`registering ${name}: ${response.status} ${JSON.stringify(answer)}`);
  return {
    baseUrl: url,
    userId: String(answer.user_id),
    deviceId: String(answer.device_id),
    accessToken: String(answer.access_token),
  };
}

interface Configuration {
  readonly url: string;
  readonly serverName: string;
  readonly port: number;
  readonly tlsPort: number;
  readonly serviceUrl: string;
  readonly proxies: boolean;
}

function writeConfiguration(dir: string, { url, serverName, port, tlsPort, serviceUrl, proxies }: Configuration): void {
  const transports = [{ type: 'livekit', livekit_service_url: serviceUrl }];
  const resources = [{ names: ['client', 'federation'] }];
  const key = `ed25519 a_${randomBytes(3).toString('hex')} ${randomBytes(32).toString('base64').replace(/=+$/, '')}`;
  writeFileSync(join(dir, 'signing.key'), `${key}\n`);
  writeFileSync(
    join(dir, 'log.yaml'),
    JSON.stringify({
      version: 1,
      formatters: { line: { format: '%(asctime)s %(levelname)s %(name)s %(message)s' } },
      handlers: { file: { class: 'logging.FileHandler', filename: join(dir, 'homeserver.log'), formatter: 'line' } },
      root: { level: 'INFO', handlers: ['file'] },
      disable_existing_loggers: false,
    }),
  );
  writeFileSync(
    join(dir, 'homeserver.yaml'),
    JSON.stringify({
      server_name: serverName,
      public_baseurl: `${url}/`,
      serve_client_wellknown: true,
      extra_well_known_client_content: { 'org.matrix.msc4143.rtc_foci': transports },
      matrix_rtc: { transports },
      listeners: [
        { port, type: 'http', bind_addresses: ['127.0.0.1'], resources },
        { port: tlsPort, type: 'http', tls: true, bind_addresses: ['127.0.0.1'], resources },
      ],
      tls_certificate_path: join(dir, 'tls.crt'),
      tls_private_key_path: join(dir, 'tls.key'),
      federation_verify_certificates: false,
      ip_range_blacklist: [],
      federation_ip_range_blacklist: [],
      database: { name: 'sqlite3', args: { database: join(dir, 'homeserver.db') } },
      media_store_path: join(dir, 'media'),
      pid_file: join(dir, 'homeserver.pid'),
      signing_key_path: join(dir, 'signing.key'),
      log_config: join(dir, 'log.yaml'),
      macaroon_secret_key: randomBytes(16).toString('hex'),
      form_secret: randomBytes(16).toString('hex'),
      trusted_key_servers: [],
      suppress_key_server_warning: true,
      report_stats: false,
      enable_registration: true,
      enable_registration_without_verification: true,
      bcrypt_rounds: 4,
      max_event_delay_duration: '24h',
      experimental_features: {
        ...{ msc4143_enabled: true, msc4354_enabled: true },
        ...(proxies ? { msc4502_enabled: true, msc4512_enabled: true } : {}),
      },
      ...(proxies ? { app_service_config_files: [join(dir, REGISTRATION)] } : {}),
      rc_message: UNLIMITED,
      rc_registration: UNLIMITED,
      rc_room_creation: UNLIMITED,
      rc_joins: { local: UNLIMITED, remote: UNLIMITED },
      rc_login: { address: UNLIMITED, account: UNLIMITED, failed_attempts: UNLIMITED },
      // An application service that is exempt from limits needs none of its own: Synapse's default shows that.
      ...(proxies ? {} : { rc_delayed_event_mgmt: UNLIMITED }),
    }),
  );
}
