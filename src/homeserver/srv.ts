// SRV records (RFC 2782): a question that is answered within 1.5 s, and the order in which targets are to be tried.
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

/** `none`: there are none. `unknown`: there was no answer. */
export type SrvAnswer = { readonly kind: 'records'; readonly records: readonly SrvRecord[] } | { readonly kind: 'none' | 'unknown' };

const TIMEOUT_MS = 1500;
/** A target that is no host name is ignored. */
const TARGET = /^([0-9A-Za-z._-]{1,255})?$/;

export function systemResolveSrv(): ResolveSrv {
  const resolver = new Resolver({ timeout: TIMEOUT_MS / 2, tries: 2 });
  return (name) => resolver.resolveSrv(name);
}

/** Never rejects; answers within 1.5 s. */
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

/** Lowest priority first; among equals drawn by weight. At most `most` of them; empty: the service is not offered. */
export function inOrder(records: readonly SrvRecord[], random: Random, most: number): readonly SrvRecord[] {
  // RFC 2782: those of weight 0 come first among equals, so that they have a small chance of being drawn, and not none.
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
