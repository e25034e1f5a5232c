// SRV records (RFC 2782): asked for within bounds, and put into the order in which their targets are to be tried.
import { Resolver } from 'node:dns/promises';
import type { Clock, Random } from '../clock.ts';
import { saysNoAddress } from '../dns/resolve.ts';

export interface SrvRecord {
  /** A host without a dot at its end; empty: the service is not offered. */
  readonly name: string;
  readonly port: number;
  readonly priority: number;
  readonly weight: number;
}
/** Rejects with a code as node:dns does. */
export type ResolveSrv = (name: string) => Promise<readonly SrvRecord[]>;

/** `unknown`: the name service did not say. */
export type SrvAnswer = { readonly kind: 'records'; readonly records: readonly SrvRecord[] } | { readonly kind: 'none' | 'unknown' };

const TIMEOUT_MS = 1500;
/** A target is a host name, whatever else an answer may hold. */
const TARGET = /^([0-9A-Za-z._-]{1,255})?$/;

export function systemResolveSrv(): ResolveSrv {
  const resolver = new Resolver({ timeout: TIMEOUT_MS / 2, tries: 2 });
  return (name) => resolver.resolveSrv(name);
}

/** Never rejects, and answers within a second and a half. */
export function askSrv(clock: Clock, resolve: ResolveSrv, name: string): Promise<SrvAnswer> {
  return new Promise((done) => {
    const stop = clock.after(TIMEOUT_MS, () => done({ kind: 'unknown' }));
    const answered = (answer: SrvAnswer): void => {
      stop();
      done(answer);
    };
    resolve(name).then(
      (found) => {
        const records = found.filter((record) => TARGET.test(record.name) && record.port >= 0 && record.port <= 65535);
        answered(records.length === 0 ? { kind: 'none' } : { kind: 'records', records });
      },
      (error: unknown) => answered({ kind: saysNoAddress(error) ? 'none' : 'unknown' }),
    );
  });
}

/** Lowest priority first; among equals by lot, the heavier the likelier. Nothing is offered: an empty list. */
export function inOrder(records: readonly SrvRecord[], random: Random, most: number): readonly SrvRecord[] {
  // Those without weight come first, so that they have the smallest chance, and not none, of being drawn.
  const rest = records.filter(({ name, port }) => name !== '' && port > 0).sort((a, b) => a.priority - b.priority || a.weight - b.weight);
  const ordered: SrvRecord[] = [];
  while (rest.length > 0 && ordered.length < most) {
    const equals = rest.filter(({ priority }) => priority === rest[0]?.priority);
    const total = equals.reduce((sum, { weight }) => sum + weight, 0);
    const mark = Math.floor(random.roll() * (total + 1));
    let passed = 0;
    const drawn = equals.findIndex(({ weight }) => {
      passed += weight;
      return passed >= mark;
    });
    ordered.push(...rest.splice(Math.max(drawn, 0), 1));
  }
  return ordered;
}
