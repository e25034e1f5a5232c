// Fetches the two .well-known documents of a Matrix server, and reads for how long an answer holds.
import type { Outbound, Reply } from './outbound.ts';

const REDIRECTS = 5;

export function fetchWellKnown(outbound: Outbound, wanted: { of: 'client' | 'server'; host: string; timeoutMs: number }): Promise<Reply> {
  const url = `https://${wanted.host}/.well-known/matrix/${wanted.of}`;
  return outbound.request({ method: 'GET', url, timeoutMs: wanted.timeoutMs, redirects: REDIRECTS });
}

/** No word of the server's own: it did not answer, or is away behind a proxy. It has not taken back what it said before. */
export function isAway(reply: Reply): boolean {
  return reply.kind === 'failed' || reply.status >= 500 || reply.status === 429;
}

/** An answer is remembered for no shorter and no longer time than these, whatever it says. */
export interface ValidityBounds {
  readonly leastMs: number;
  /** When the answer does not say. */
  readonly usualMs: number;
  readonly mostMs: number;
}

/** How long an answer holds, ms: by Cache-Control, else by Expires, within the bounds. */
export function validityMs(headers: Readonly<Record<string, string>>, nowMs: number, bounds: ValidityBounds): number {
  const told = toldMs(headers, nowMs);
  return told === null ? bounds.usualMs : Math.min(Math.max(told, bounds.leastMs), bounds.mostMs);
}

function toldMs(headers: Readonly<Record<string, string>>, nowMs: number): number | null {
  const control = headers['cache-control'] ?? '';
  if (/\bno-(store|cache)\b/i.test(control)) return 0;
  const seconds = /(?:^|[\s,])max-age\s*=\s*"?(-?\d{1,10})/i.exec(control)?.[1];
  // Age: so much of it has passed in a cache on the way.
  if (seconds !== undefined) return (Number(seconds) - Number(/^\d{1,10}$/.exec(headers.age ?? '')?.[0] ?? 0)) * 1000;
  if (headers.expires === undefined) return null;
  const expiresMs = Date.parse(headers.expires);
  const sentMs = Date.parse(headers.date ?? '');
  // `Expires: 0` and other words that are no date mean: already past.
  return Number.isNaN(expiresMs) ? 0 : expiresMs - (Number.isNaN(sentMs) ? nowMs : sentMs);
}
