// A server that answers what a test tells it to, over http or over TLS with a certificate nobody trusts.
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';

export interface ScriptedServer {
  readonly port: number;
  /** `METHOD path`, in order. */
  readonly requests: string[];
  readonly headers: IncomingMessage['headers'][];
  readonly bodies: string[];
  close(): Promise<void>;
}
export type Script = (request: IncomingMessage, response: ServerResponse) => void;

export async function startScriptedServer(script: Script, options: { readonly tls?: boolean } = {}): Promise<ScriptedServer> {
  const requests: string[] = [];
  const headers: IncomingMessage['headers'][] = [];
  const bodies: string[] = [];
  const serve = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    let body = '';
    for await (const chunk of request) body += chunk;
    requests.push(`${request.method} ${request.url}`);
    headers.push(request.headers);
    bodies.push(body);
    script(request, response);
  };
  const listener = (request: IncomingMessage, response: ServerResponse): void => void serve(request, response);
  const server = options.tls ? createTlsServer({ key: KEY, cert: CERTIFICATE }, listener) : createServer(listener);
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  return {
    port: (server.address() as AddressInfo).port,
    requests,
    headers,
    bodies,
    async close() {
      const closed = new Promise<void>((resolve) => void server.close(() => resolve()));
      server.closeAllConnections();
      await closed;
    },
  };
}

export function answer(response: ServerResponse, status: number, body: unknown = {}, headers: Record<string, string> = {}): void {
  response.writeHead(status, headers).end(typeof body === 'string' ? body : JSON.stringify(body));
}

// For localhost, self-signed, of use in tests only.
const KEY = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgb2/u6+7nAzbWMTyw
vDnpzHSY6OvqwPbaz4c+d7M9/zChRANCAATvEvMb+kmSUgMxhMP1Yt66Ew4giCSP
P9yf8svyIY6wwsUXRHfqj99vWt3ULoHNo4jygZJpD85dSwUUmqc934t+
-----END PRIVATE KEY-----`;
const CERTIFICATE = `-----BEGIN CERTIFICATE-----
MIIBnDCCAUGgAwIBAgIUDxnaZnqbAMSE4/3ScJ3cjOdJU8IwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMzA4NTYyOFoYDzIxMjYxMDMw
MDg1NjI4WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAATvEvMb+kmSUgMxhMP1Yt66Ew4giCSPP9yf8svyIY6wwsUXRHfqj99v
Wt3ULoHNo4jygZJpD85dSwUUmqc934t+o28wbTAdBgNVHQ4EFgQUgpUmxPZAnTeu
9a2k9OwMXUIF/XYwHwYDVR0jBBgwFoAUgpUmxPZAnTeu9a2k9OwMXUIF/XYwDwYD
VR0TAQH/BAUwAwEB/zAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwCgYIKoZI
zj0EAwIDSQAwRgIhAIyFf6/TMvCKjnpfsbNbgPpC3YyXLqyoNVSK3vb9+zRjAiEA
+fx+Kh2f4x+37pGoodyUycErBjtkiQSLq7iFPdFpHH8=
-----END CERTIFICATE-----`;
