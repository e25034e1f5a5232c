// Brings what the stories need and package managers can give: livekit-server, built from its Go module, Synapse, in a Python
// environment of its own, and Debian's Chromium, Redis, Valkey and iproute2. The first two go to a cache folder under their version,
// built beside it and renamed, so that a broken installation is never taken for a whole one. What is there already is left alone.
import { type SpawnSyncOptions, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { chromiumBinary } from './browser/stack/chromium-binary.ts';
import {
  LIVEKIT_VERSION,
  livekitBinary,
  livekitDir,
  SYNAPSE_VERSION,
  synapseDir,
  synapsePython,
  valkeyBinary,
  valkeyDir,
} from './stack/processes.ts';
import { redisBinary } from './stack/redis.ts';

const OLDEST_PYTHON = [3, 10] as const;

class Missing extends Error {}

function output(command: string, args: readonly string[]): string | null {
  const ran = spawnSync(command, args, { encoding: 'utf8' });
  return ran.status === 0 ? ran.stdout.trim() : null;
}

function run(command: string, args: readonly string[], options: SpawnSyncOptions = {}): boolean {
  return spawnSync(command, args, { ...options, stdio: 'inherit' }).status === 0;
}

/** Runs `build` on a folder beside the target and moves it there when it has worked. */
function inPlaceOf(target: string, whole: () => boolean, build: (dir: string) => void): void {
  const building = `${target}.${process.pid}`;
  mkdirSync(dirname(target), { recursive: true });
  try {
    build(building);
    if (!whole()) {
      rmSync(target, { recursive: true, force: true });
      renameSync(building, target);
    }
  } finally {
    rmSync(building, { recursive: true, force: true });
  }
  if (!whole()) throw new Error(`what was installed in ${target} does not run`);
}

function installLiveKit(): void {
  const whole = (): boolean => output(livekitBinary, ['--version'])?.includes(LIVEKIT_VERSION) ?? false;
  if (whole()) {
    console.log(`livekit-server ${LIVEKIT_VERSION}: there (${livekitDir})`);
    return;
  }
  if (output('go', ['version']) === null) {
    throw new Missing(`Go, to build livekit-server ${LIVEKIT_VERSION}: no working "go" on the PATH; see https://go.dev/doc/install`);
  }
  const module = `github.com/livekit/livekit-server@v${LIVEKIT_VERSION}`;
  console.log(`livekit-server ${LIVEKIT_VERSION}: building ${module}, this takes some minutes`);
  inPlaceOf(livekitDir, whole, (dir) => {
    // `go install` of a module refuses one that replaces others, as LiveKit's does from 1.13.6 on.
    const downloaded = spawnSync('go', ['mod', 'download', '-json', module], { encoding: 'utf8' });
    const { Dir: source, Error: why } = JSON.parse(downloaded.stdout) as { readonly Dir?: string; readonly Error?: string };
    if (source === undefined) throw new Error(`go mod download ${module} failed: ${why}`);
    mkdirSync(dir);
    if (!run('go', ['build', '-C', source, '-o', join(dir, 'server'), './cmd/server'])) throw new Error(`go build of ${module} failed`);
  });
}

function installSynapse(): void {
  const whole = (): boolean => output(synapsePython, ['-c', 'import synapse; print(synapse.__version__)']) === SYNAPSE_VERSION;
  if (whole()) {
    console.log(`Synapse ${SYNAPSE_VERSION}: there (${synapseDir})`);
    return;
  }
  const version = output('python3', ['-c', 'import sys; print(*sys.version_info[:2])'])?.split(' ').map(Number);
  const wanted = `Python ${OLDEST_PYTHON.join('.')} or newer, to run Synapse ${SYNAPSE_VERSION}`;
  if (version === undefined) throw new Missing(`${wanted}: no working "python3" on the PATH; see https://www.python.org/downloads/`);
  const [major = 0, minor = 0] = version;
  if (major !== OLDEST_PYTHON[0] || minor < OLDEST_PYTHON[1]) throw new Missing(`${wanted}: "python3" is ${major}.${minor}`);
  console.log(`Synapse ${SYNAPSE_VERSION}: installing into ${synapseDir}`);
  inPlaceOf(synapseDir, whole, (dir) => {
    createEnvironment(dir);
    if (
      !run(join(dir, 'bin/python'), [
        '-m',
        'pip',
        'install',
        '--quiet',
        '--disable-pip-version-check',
        `matrix-synapse==${SYNAPSE_VERSION}`,
      ])
    ) {
      throw new Error(`pip install matrix-synapse==${SYNAPSE_VERSION} failed`);
    }
  });
}

/** Debian keeps the venv module's other half in a package of its own. */
function createEnvironment(dir: string): void {
  if (run('python3', ['-m', 'venv', dir])) return;
  const debianAsRoot = process.getuid?.() === 0 && output('apt-get', ['--version']) !== null;
  if (!debianAsRoot) throw new Missing('the Python module "venv" with pip (Debian and Ubuntu: apt-get install python3-venv)');
  console.log('Python cannot make a virtual environment: installing python3-venv');
  rmSync(dir, { recursive: true, force: true });
  run('apt-get', ['update', '--quiet']);
  const installed = run('apt-get', ['install', '--yes', '--quiet', '--no-install-recommends', 'python3-venv']);
  if (!installed || !run('python3', ['-m', 'venv', dir]))
    throw new Missing('the Python module "venv": apt-get install python3-venv did not bring it');
}

interface DebianPackage {
  readonly name: string;
  readonly binary: string;
  /** The variable that may name another binary. */
  readonly variable: string;
  /** What is skipped without it; everything else runs, and the stories say why. */
  readonly stories: string;
}

function installDebian({ name, binary, variable, stories }: DebianPackage): void {
  if (existsSync(binary)) {
    console.log(`${name}: there (${binary})`);
    return;
  }
  const byHand = `apt-get install ${name} as root, or name one of yours in ${variable}`;
  const skipped = `The ${stories} will be skipped: no ${binary}`;
  if (process.getuid?.() !== 0 || output('apt-get', ['--version']) === null) {
    console.warn(`${skipped}, and it can only be installed as root with apt-get (${byHand}).`);
    return;
  }
  console.log(`${name}: installing the package of the distribution`);
  run('apt-get', ['update', '--quiet']);
  const installed = run('apt-get', ['install', '--yes', '--quiet', '--no-install-recommends', name]);
  if (!installed || !existsSync(binary)) console.warn(`${skipped}: apt-get install ${name} did not bring it (${byHand}).`);
}

function installChromium(): void {
  installDebian({ name: 'chromium', binary: chromiumBinary, variable: 'LASTWILL_CHROMIUM', stories: 'browser stories' });
}

function installRedis(): void {
  installDebian({ name: 'redis-server', binary: redisBinary, variable: 'LASTWILL_REDIS_SERVER', stories: 'stories of the swap' });
}

/** Of Debian 12 only its backports have Valkey: the package is unpacked into the cache folder, and nothing of the system is changed. */
function installValkey(): void {
  const own = ['valkey-server', valkeyBinary].find((binary) => output(binary, ['--version']) !== null);
  if (own !== undefined) {
    console.log(`valkey-server: there (${own})`);
    return;
  }
  const codename = existsSync('/etc/os-release')
    ? /^VERSION_CODENAME=(\w+)/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1]
    : undefined;
  if (codename === undefined || output('apt-get', ['--version']) === null || output('dpkg', ['--version']) === null) {
    console.warn('The tests on Valkey will be skipped: no valkey-server on the PATH, and it can only be brought from Debian.');
    return;
  }
  console.log('valkey-server: unpacking the package of the distribution, or of its backports');
  const dir = mkdtempSync(join(tmpdir(), 'lastwill-apt-'));
  mkdirSync(join(dir, 'lists/partial'), { recursive: true });
  const key = '/usr/share/keyrings/debian-archive-keyring.gpg';
  const suites = [codename, `${codename}-backports`].map((suite) => `deb [signed-by=${key}] http://deb.debian.org/debian ${suite} main\n`);
  writeFileSync(join(dir, 'sources.list'), suites.join(''));
  const places = [
    `Dir::Etc::sourcelist=${dir}/sources.list`,
    'Dir::Etc::sourceparts=-',
    `Dir::State::Lists=${dir}/lists`,
    `Dir::Cache=${dir}`,
  ];
  const apt = (...args: string[]): boolean =>
    run('apt-get', [...places.flatMap((place) => ['-o', place]), '--quiet', ...args], { cwd: dir });
  const brought = apt('update') && apt('download', 'valkey-server', 'valkey-tools');
  for (const file of readdirSync(dir).filter((name) => name.endsWith('.deb'))) run('dpkg', ['-x', join(dir, file), valkeyDir]);
  rmSync(dir, { recursive: true, force: true });
  if (!brought || output(valkeyBinary, ['--version']) === null) {
    console.warn('The tests on Valkey will be skipped: the packages valkey-server and valkey-tools could not be had, or do not run here.');
  }
}

/** For network namespaces; without it the chaos is skipped, and says so. */
function installIproute(): void {
  if (output('ip', ['-V']) !== null) {
    console.log('iproute2: there');
    return;
  }
  if (process.getuid?.() !== 0 || output('apt-get', ['--version']) === null) {
    console.warn('The chaos will be skipped: it needs root and "ip" (Debian: apt-get install iproute2).');
    return;
  }
  console.log('iproute2: installing the package of the distribution');
  run('apt-get', ['update', '--quiet']);
  run('apt-get', ['install', '--yes', '--quiet', '--no-install-recommends', 'iproute2']);
}

let failed = false;
for (const install of [installLiveKit, installSynapse, installChromium, installRedis, installValkey, installIproute]) {
  try {
    install();
  } catch (error) {
    failed = true;
    const message = error instanceof Error ? error.message : String(error);
    console.error(error instanceof Missing ? `The end-to-end tests need ${message}.` : message);
  }
}
process.exitCode = failed ? 1 : 0;
