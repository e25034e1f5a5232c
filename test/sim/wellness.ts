// What is wrong in a simulated world, and since when it is not any more: a promise counts from the moment from which it could be kept.

export type Part = 'service' | 'store' | 'sfu api' | 'sfu lists' | 'webhooks' | `homeserver ${number}` | `sender ${number}`;

export class Wellness {
  readonly #now: () => number;
  readonly #wrong = new Map<Part, number>();
  readonly #lastWrongMs = new Map<Part, number>();
  readonly #brokeMs = new Map<Part, number>();

  constructor(now: () => number) {
    this.#now = now;
  }

  /** Something goes wrong now, and the returned function ends it. */
  break(part: Part): () => void {
    if (!this.isWrong(part)) this.#brokeMs.set(part, this.#now());
    this.#wrong.set(part, (this.#wrong.get(part) ?? 0) + 1);
    this.blip(part);
    let over = false;
    return () => {
      if (over) return;
      over = true;
      this.#wrong.set(part, (this.#wrong.get(part) ?? 1) - 1);
      this.blip(part);
    };
  }

  /** Something went wrong for this moment only. */
  blip(part: Part): void {
    this.#lastWrongMs.set(part, this.#now());
  }

  /** When its newest outage, over or not, began; long ago, if it had none. */
  brokeMs(part: Part): number {
    return this.#brokeMs.get(part) ?? Number.NEGATIVE_INFINITY;
  }

  isWrong(part: Part): boolean {
    return (this.#wrong.get(part) ?? 0) > 0;
  }

  /** Since when all of these have been well; now, if one of them is not. */
  since(...parts: Part[]): number {
    let sinceMs = Number.NEGATIVE_INFINITY;
    for (const part of parts)
      sinceMs = Math.max(sinceMs, this.isWrong(part) ? this.#now() : (this.#lastWrongMs.get(part) ?? Number.NEGATIVE_INFINITY));
    return sinceMs;
  }
}
