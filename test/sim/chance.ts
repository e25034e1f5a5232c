// Chance in a simulated world: one stream for each thing that is left to chance, so that taking one thing out of a failing run changes the
// draws of the others as little as possible, and the run still fails for the same reason.
import { createSeededRandom } from '../support/virtual-clock.ts';

export class Chance {
  readonly #seed: number;
  readonly #streams = new Map<string, () => number>();

  constructor(seed: number) {
    this.#seed = seed;
  }

  /** Uniform in [0, 1). */
  roll(stream: string): number {
    let roll = this.#streams.get(stream);
    if (roll === undefined) {
      roll = createSeededRandom(hash(stream, this.#seed)).roll;
      this.#streams.set(stream, roll);
    }
    return roll();
  }

  happens(stream: string, probability: number): boolean {
    return probability > 0 && this.roll(stream) < probability;
  }

  /** A whole number in [from, to]. */
  between(stream: string, from: number, to: number): number {
    return from + Math.floor(this.roll(stream) * (to - from + 1));
  }

  pick<T>(stream: string, from: readonly [T, ...T[]]): T;
  pick<T>(stream: string, from: readonly T[]): T | undefined;
  pick<T>(stream: string, from: readonly T[]): T | undefined {
    return from[Math.floor(this.roll(stream) * from.length)];
  }
}

/** FNV-1a, begun at the seed. */
export function hash(text: string, seed: number): number {
  let value = (0x811c9dc5 ^ seed) >>> 0;
  for (let at = 0; at < text.length; at += 1) value = Math.imul(value ^ text.charCodeAt(at), 0x01000193) >>> 0;
  return value;
}
