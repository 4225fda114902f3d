/** The few figures that the tables and plots are made of. */

/** The value below which the share `q` of the values lies (nearest rank). */
export function quantile(values: number[], q: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(q * sorted.length) - 1)];
}

export interface Summary {
  p50: number;
  p95: number;
}

export function summarize(values: number[]): Summary {
  return { p50: quantile(values, 0.5), p95: quantile(values, 0.95) };
}

/** Of five parts one after the other, the p95 of the middle one: a moment's noise is in one part. */
export function steadyP95(values: number[]): number {
  return quantile(fifths(values).map((part) => quantile(part, 0.95)), 0.5);
}

/** Of five parts one after the other, the p50 of the quietest one: what others do on the machine only adds. */
export function quietP50(values: number[]): number {
  return Math.min(...fifths(values).map((part) => quantile(part, 0.5)));
}

function fifths(values: number[]): number[][] {
  const size = Math.ceil(values.length / 5);
  return [0, 1, 2, 3, 4].map((i) => values.slice(i * size, (i + 1) * size)).filter((part) => part.length > 0);
}

/** The exponent k of y = c · x^k that fits the points best: 0 is flat, 1 grows with x. */
export function exponent(points: [x: number, y: number][]): number {
  const logs = points.map(([x, y]) => [Math.log(x), Math.log(y)]);
  const mean = (i: number) => logs.reduce((sum, log) => sum + log[i], 0) / logs.length;
  const [meanX, meanY] = [mean(0), mean(1)];
  const covariance = logs.reduce((sum, [x, y]) => sum + (x - meanX) * (y - meanY), 0);
  return covariance / logs.reduce((sum, [x]) => sum + (x - meanX) ** 2, 0);
}

export async function milliseconds(work: () => Promise<unknown>): Promise<number> {
  const startedAt = performance.now();
  await work();
  return performance.now() - startedAt;
}
