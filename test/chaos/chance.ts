// Chance that a printed seed repeats: every person and the servers have a stream of their own, so that who is slow shifts nobody else's.
import { createSeededRandom } from '../support/virtual-clock.ts';

export class Chance {
  /** Uniform in [0, 1). */
  readonly roll: () => number;

  constructor(seed: number, stream: number) {
    this.roll = createSeededRandom(seed + Math.imul(stream + 1, 0x5851_f42d)).roll;
  }

  between(from: number, to: number): number {
    return from + this.roll() * (to - from);
  }

  one<T>(of: readonly T[]): T {
    const chosen = of[Math.floor(this.roll() * of.length)];
    if (chosen === undefined) throw new Error('nothing to choose from');
    return chosen;
  }

  shuffled<T>(of: readonly T[]): T[] {
    return of
      .map((one) => ({ one, at: this.roll() }))
      .toSorted((a, b) => a.at - b.at)
      .map(({ one }) => one);
  }
}
