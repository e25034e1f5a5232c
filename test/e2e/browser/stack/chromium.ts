// Debian's Chromium, one process tree per story, so that it can be killed or stopped alone.
import { type Browser, type BrowserServer, chromium, type Page } from 'playwright-core';
import { now } from '../../stack/processes.ts';
import { chromiumBinary } from './chromium-binary.ts';

const ARGUMENTS = [
  '--use-fake-device-for-media-stream',
  '--use-fake-ui-for-media-stream',
  '--autoplay-policy=no-user-gesture-required',
  // Everything is on loopback: no names to hide, nothing to ask a proxy.
  '--disable-features=WebRtcHideLocalIpsWithMdns,LocalNetworkAccessChecks',
  '--no-proxy-server',
  '--disable-dev-shm-usage',
];

/** The moment, and the way back. */
export interface Stopped {
  readonly atMs: number;
  readonly thaw: () => void;
}

interface ProcessInfo {
  readonly type: string;
  readonly id: number;
}

export interface ChromiumOptions {
  /** What is started instead of it, to start it in turn. */
  readonly executable?: string;
  /** An origin that is to be trusted with a microphone although it is not on loopback. */
  readonly trusted?: string;
}

export class Chromium {
  readonly page: Page;
  readonly #server: BrowserServer;
  readonly #browser: Browser;

  private constructor(server: BrowserServer, browser: Browser, page: Page) {
    this.#server = server;
    this.#browser = browser;
    this.page = page;
  }

  static async start({ executable = chromiumBinary, trusted }: ChromiumOptions = {}): Promise<Chromium> {
    const args = trusted === undefined ? ARGUMENTS : [...ARGUMENTS, `--unsafely-treat-insecure-origin-as-secure=${trusted}`];
    const server = await chromium.launchServer({ executablePath: executable, args, headless: true, timeout: 60_000 });
    const browser = await chromium.connect(server.wsEndpoint());
    const context = await browser.newContext({ ignoreHTTPSErrors: true, viewport: { width: 1024, height: 640 } });
    return new Chromium(server, browser, await context.newPage());
  }

  /** The tab dies, the browser lives: no goodbye of any kind. Returns the moment. */
  async killTab(): Promise<number> {
    const renderers = (await this.#processes()).filter(({ type }) => type === 'renderer');
    const atMs = now();
    for (const { id } of renderers) signal(id, 'SIGKILL');
    return atMs;
  }

  /** The whole browser at once. */
  async kill(): Promise<number> {
    const processes = await this.#processes();
    const atMs = now();
    for (const { id } of processes) signal(id, 'SIGKILL');
    return atMs;
  }

  /** Stopped, not dead: sockets stay open, nothing is answered. */
  freeze(): Promise<Stopped> {
    return this.#stop(() => true);
  }

  /** The process that holds all sockets of the browser stops: the pages live on and hear nothing, as with a cable pulled. */
  cutNetwork(): Promise<Stopped> {
    return this.#stop(({ type }) => type.includes('NetworkService'));
  }

  /** What the developer tools call offline: HTTP and new WebSockets fail. Media that flows goes on flowing. */
  async goOffline(): Promise<number> {
    const atMs = now();
    await this.page.context().setOffline(true);
    return atMs;
  }

  /** Whatever state it is in. */
  async end(): Promise<void> {
    signal(this.#server.process().pid ?? 0, 'SIGCONT');
    await this.#server.kill();
  }

  async #stop(which: (process: ProcessInfo) => boolean): Promise<Stopped> {
    const chosen = (await this.#processes()).filter(which);
    if (chosen.length === 0) throw new Error('no such process of the browser');
    const atMs = now();
    for (const { id } of chosen) signal(id, 'SIGSTOP');
    return { atMs, thaw: () => chosen.forEach(({ id }) => void signal(id, 'SIGCONT')) };
  }

  async #processes(): Promise<ProcessInfo[]> {
    const session = await this.#browser.newBrowserCDPSession();
    const { processInfo } = await session.send('SystemInfo.getProcessInfo');
    await session.detach();
    return processInfo;
  }
}

function signal(pid: number, name: NodeJS.Signals): void {
  if (pid <= 0) return;
  try {
    process.kill(pid, name);
  } catch {
    // It is gone.
  }
}
