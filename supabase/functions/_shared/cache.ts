/** Values kept in memory for a while: no more than `max` at a time, and none beyond its own time. */
export class TimedCache<Value> {
  readonly #entries = new Map<string, { value: Value; until: number }>();

  constructor(readonly max: number) {}

  get size(): number {
    return this.#entries.size;
  }

  get(key: string): Value | undefined {
    const entry = this.#entries.get(key);
    return entry && Date.now() < entry.until ? entry.value : undefined;
  }

  /** @param until In milliseconds since 1970. */
  set(key: string, value: Value, until: number): void {
    this.#entries.delete(key); // what is set again counts as new
    this.#entries.set(key, { value, until });
    // From the oldest on: what has run out, and what there is no room for.
    for (const [oldest, entry] of this.#entries) {
      if (this.size <= this.max && Date.now() < entry.until) break;
      this.#entries.delete(oldest);
    }
  }
}
