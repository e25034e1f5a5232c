// Webhooks that were taken, each for some time. They are kept by the era they came in: a key that says so by itself needs no second tree,
// and new ones lie together. Who is asked about is looked for in this era and the last, so that each is known for one at least.
import type { OnceKey } from '../store.ts';
import type { prepareAll } from './statements.ts';

/** Files are by it: it never changes. */
const ERA_MS = 600_000;
const eraOf = (atMs: number): number => Math.floor(atMs / ERA_MS);

export class Once {
  readonly #sql: ReturnType<typeof prepareAll>;

  constructor(sql: ReturnType<typeof prepareAll>) {
    this.#sql = sql;
  }

  knows(key: OnceKey, nowMs: number): boolean {
    const era = eraOf(nowMs);
    return this.#sql.onceKnown.get(era - 1, era, key) !== undefined;
  }

  keep(key: OnceKey, nowMs: number): void {
    this.#sql.onceKeep.run(eraOf(nowMs), key);
  }

  /** Whole eras; returns how many webhooks were forgotten. */
  purge(beforeMs: number, limit: number): number {
    return Number(this.#sql.purgeOnce.run(eraOf(beforeMs), limit).changes);
  }
}
