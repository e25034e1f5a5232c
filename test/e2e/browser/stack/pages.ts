// The web server of the stories: our two pages, bundled when the run begins, and Element Call as its package ships it.
import { readFile } from 'node:fs/promises';
import { createServer, type Server as HttpServer } from 'node:http';
import { extname, join, normalize } from 'node:path';
import { build } from 'esbuild';
import { freePort, repositoryDir } from '../../stack/processes.ts';

const elementCallDir = join(repositoryDir, 'node_modules/@element-hq/element-call-embedded/dist');
const pageDir = join(import.meta.dirname, '../page');
const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript',
  '.json': 'application/json',
  '.css': 'text/css',
  '.svg': 'image/svg+xml',
  '.wasm': 'application/wasm',
};

interface Answer {
  readonly type: string;
  readonly body: string | Uint8Array;
}

export class Pages {
  readonly url: string;
  readonly #server: HttpServer;

  private constructor(url: string, server: HttpServer) {
    this.url = url;
    this.#server = server;
  }

  /** On loopback, where browsers trust it, unless told otherwise. */
  static async start(address?: string): Promise<Pages> {
    const ours = await bundle();
    const server = createServer((request, response) => {
      const path = decodeURIComponent(new URL(request.url ?? '/', 'http://pages').pathname);
      find(path, ours).then(
        ({ type, body }) => response.writeHead(200, { 'content-type': type }).end(body),
        () => response.writeHead(404).end(),
      );
    });
    const port = await freePort();
    await new Promise<void>((listening) => server.listen(port, address ?? '127.0.0.1', listening));
    return new Pages(`http://${address ?? 'localhost'}:${port}`, server);
  }

  stop(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }
}

async function bundle(): Promise<ReadonlyMap<string, Answer>> {
  const answers = new Map<string, Answer>();
  for (const name of ['member', 'host', 'guest']) {
    const built = await build({
      entryPoints: [join(pageDir, `${name}.ts`)],
      bundle: true,
      write: false,
      format: 'esm',
      target: 'es2024',
      define: { global: 'globalThis' },
      logLevel: 'error',
    });
    answers.set(`/${name}.js`, { type: 'text/javascript', body: built.outputFiles[0]?.contents ?? '' });
    const html = `<!doctype html><meta charset="utf-8"><title>${name}</title><body><script type="module" src="/${name}.js"></script>`;
    answers.set(`/${name}.html`, { type: 'text/html; charset=utf-8', body: html });
  }
  return answers;
}

async function find(path: string, ours: ReadonlyMap<string, Answer>): Promise<Answer> {
  const own = ours.get(path);
  if (own !== undefined) return own;
  if (!path.startsWith('/element-call/')) throw new Error('no such page');
  const file = normalize(join(elementCallDir, path.slice('/element-call/'.length)));
  if (!file.startsWith(elementCallDir)) throw new Error('no such page');
  return { type: TYPES[extname(file)] ?? 'application/octet-stream', body: await readFile(file) };
}
