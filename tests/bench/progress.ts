/** One line for each step: how far the run is, and how long it has taken. */
export class Progress {
  readonly #startedAt = performance.now();
  #done = 0;

  /** `steps`: how many there will be. */
  constructor(readonly steps: number) {}

  step(name: string): void {
    const share = Math.min(Math.round(100 * this.#done++ / this.steps), 100);
    const seconds = ((performance.now() - this.#startedAt) / 1000).toFixed(0);
    console.error(
      `${String(share).padStart(3)} %  ${seconds.padStart(4)} s  ${name}`,
    );
  }
}
