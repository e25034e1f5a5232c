// A server that answers what a test tells it to, over http or over TLS with a certificate nobody trusts.
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { TLSSocket } from 'node:tls';

export interface ScriptedServer {
  readonly port: number;
  /** `METHOD path`, in order. */
  readonly requests: string[];
  readonly headers: IncomingMessage['headers'][];
  readonly bodies: string[];
  /** What each request's connection asked for by SNI, null for nothing. */
  readonly serverNames: (string | null)[];
  /** How many connections there have been. */
  connections(): number;
  close(): Promise<void>;
}
export type Script = (request: IncomingMessage, response: ServerResponse) => void;

export interface ScriptedOptions {
  /** Over TLS, as localhost; `federation`: as one of FEDERATION_NAMES. */
  readonly tls?: boolean | 'federation';
  readonly address?: string;
}

export async function startScriptedServer(script: Script, options: ScriptedOptions = {}): Promise<ScriptedServer> {
  const requests: string[] = [];
  const headers: IncomingMessage['headers'][] = [];
  const bodies: string[] = [];
  const serverNames: (string | null)[] = [];
  let connections = 0;
  const serve = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    let body = '';
    for await (const chunk of request) body += chunk;
    requests.push(`${request.method} ${request.url}`);
    headers.push(request.headers);
    bodies.push(body);
    // False where the client sent none.
    serverNames.push((request.socket as Partial<TLSSocket>).servername || null);
    script(request, response);
  };
  const listener = (request: IncomingMessage, response: ServerResponse): void => void serve(request, response);
  const identity = options.tls === 'federation' ? { key: FEDERATION_KEY, cert: FEDERATION_CERTIFICATE } : { key: KEY, cert: CERTIFICATE };
  const server = options.tls ? createTlsServer(identity, listener) : createServer(listener);
  server.on('connection', () => {
    connections += 1;
  });
  await new Promise<void>((resolve) => void server.listen(0, options.address ?? '127.0.0.1', resolve));
  return {
    port: (server.address() as AddressInfo).port,
    requests,
    headers,
    bodies,
    serverNames,
    connections: () => connections,
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

/** What the federation certificate is for, beside 127.0.0.1 and ::1. It is self-signed, so that it can be trusted as an authority. */
export const FEDERATION_NAMES = ['example.org', 'fed.example.net', 'xn--bcher-kva.example.org'] as const;
const FEDERATION_KEY = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgMnSveNVRLOjIoql9
csUno2KrSDssu48E+Kjdn6uZhaOhRANCAATKiHDepJla+Q7ESkRpON+4YGIdV8zC
wI0rrD+Ez4f9Weh/GWxJ5tOBj4HHnlWGWjdd3Iu6oCHRvo7kIF8Ifb6z
-----END PRIVATE KEY-----`;
export const FEDERATION_CERTIFICATE = `-----BEGIN CERTIFICATE-----
MIIB3zCCAYWgAwIBAgIUbEF+PsgZtIuJLHKvehABQKktThAwCgYIKoZIzj0EAwIw
FTETMBEGA1UEAwwKZmVkZXJhdGlvbjAgFw0yNjExMjMwOTM5MDNaGA8yMTI2MTAz
MDA5MzkwM1owFTETMBEGA1UEAwwKZmVkZXJhdGlvbjBZMBMGByqGSM49AgEGCCqG
SM49AwEHA0IABMqIcN6kmVr5DsRKRGk437hgYh1XzMLAjSusP4TPh/1Z6H8ZbEnm
04GPgceeVYZaN13ci7qgIdG+juQgXwh9vrOjgbAwga0wHQYDVR0OBBYEFLJJCB7S
+/XnaiNX+u8y2/rCWpEpMB8GA1UdIwQYMBaAFLJJCB7S+/XnaiNX+u8y2/rCWpEp
MA8GA1UdEwEB/wQFMAMBAf8wWgYDVR0RBFMwUYIPZmVkLmV4YW1wbGUubmV0ggtl
eGFtcGxlLm9yZ4IZeG4tLWJjaGVyLWt2YS5leGFtcGxlLm9yZ4cEfwAAAYcQAAAA
AAAAAAAAAAAAAAAAATAKBggqhkjOPQQDAgNIADBFAiEA1faEY52CZROnp5ZH2LPT
59fordEt4DSeGd9g6TJjr3ECIDDEq+dp/yxKhs4o+TiL5tDKxfLEBC9mtpiXS/NV
/ABG
-----END CERTIFICATE-----`;
