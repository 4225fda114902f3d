/** Line plots as SVG, without a library: axes, grid, lines with their names at the end. */

export interface Series {
  name: string;
  points: [x: number, y: number][];
  /** Drawn as a reference: grey and dashed. */
  reference?: boolean;
}

export interface LinePlot {
  title: string;
  xLabel: string;
  yLabel: string;
  /** Otherwise linear, from 0. */
  logX?: boolean;
  series: Series[];
}

const WIDTH = 800;
const HEIGHT = 400;
const MARGIN = { top: 44, right: 190, bottom: 52, left: 64 };
/** In the middle between light and dark: readable on either. */
const COLORS = ["#2f81f7", "#d4762c", "#2da44e", "#bf5af2", "#e5534b", "#b08800", "#1b9aaa"];
const LABEL_HEIGHT = 14;

/** Follows the reader's colour scheme, as an image on GitHub can. */
const STYLE = `text { font: 12px system-ui, sans-serif; fill: #57606a } .title { font-size: 15px; fill: #1f2328 }
    .grid { stroke: #d0d7de; stroke-width: 1 } .line { fill: none; stroke-width: 2 }
    @media (prefers-color-scheme: dark) {
      text { fill: #9198a1 } .title { fill: #e6edf3 } .grid { stroke: #3d444d }
    }`;

/** The vertical axis is logarithmic. */
export function linePlot({ title, xLabel, yLabel, logX = false, series }: LinePlot): string {
  const xs = series.flatMap(({ points }) => points.map(([x]) => x));
  const ys = series.flatMap(({ points }) => points.map(([, y]) => y));
  const [minY, maxY] = [2 ** Math.floor(Math.log2(Math.min(...ys))), 2 ** Math.ceil(Math.log2(Math.max(...ys)))];
  const [minX, maxX] = [logX ? Math.min(...xs) : 0, Math.max(...xs)];
  const plotWidth = WIDTH - MARGIN.left - MARGIN.right;
  const plotHeight = HEIGHT - MARGIN.top - MARGIN.bottom;
  const position = (value: number, min: number, max: number, log: boolean) =>
    log ? Math.log(value / min) / Math.log(max / min) : (value - min) / (max - min);
  const px = (x: number) => round(MARGIN.left + plotWidth * position(x, minX, maxX, logX));
  const py = (y: number) => round(MARGIN.top + plotHeight * (1 - position(y, minY, maxY, true)));

  const [bottom, right] = [MARGIN.top + plotHeight, MARGIN.left + plotWidth];
  const parts = [
    `<text class="title" x="${MARGIN.left}" y="24">${escape(title)}</text>`,
    `<text x="${MARGIN.left + plotWidth / 2}" y="${HEIGHT - 12}" text-anchor="middle">${escape(xLabel)}</text>`,
    `<text transform="translate(16 ${MARGIN.top + plotHeight / 2}) rotate(-90)" text-anchor="middle">${
      escape(yLabel)
    }</text>`,
  ];
  for (const y of doublings(minY, maxY)) {
    parts.push(`<line class="grid" x1="${MARGIN.left}" y1="${py(y)}" x2="${right}" y2="${py(y)}"/>`);
    parts.push(`<text x="${MARGIN.left - 8}" y="${py(y) + 4}" text-anchor="end">${figure(y)}</text>`);
  }
  for (const x of logX ? decades(minX, maxX) : steps(maxX)) {
    parts.push(`<line class="grid" x1="${px(x)}" y1="${MARGIN.top}" x2="${px(x)}" y2="${bottom}"/>`);
    parts.push(`<text x="${px(x)}" y="${bottom + 18}" text-anchor="middle">${figure(x)}</text>`);
  }
  const labels = spread(series.map(({ points }) => py(points.at(-1)![1])));
  for (const [i, { name, points, reference }] of series.entries()) {
    const color = reference ? "#848d97" : COLORS[i % COLORS.length];
    const path = points.map(([x, y], n) => `${n ? "L" : "M"}${px(x)} ${py(y)}`).join("");
    parts.push(`<path class="line" stroke="${color}"${reference ? ' stroke-dasharray="5 4"' : ""} d="${path}"/>`);
    parts.push(`<text x="${right + 10}" y="${labels[i] + 4}" style="fill: ${color}">${escape(name)}</text>`);
  }
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${
    escape(title)
  }">
  <style>
    ${STYLE}
  </style>
  ${parts.join("\n  ")}
</svg>
`;
}

export function escape(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
}

/** The same places, moved as far apart as lines of text need. */
export function spread(places: number[], distance = LABEL_HEIGHT): number[] {
  const order = places.map((place, i) => ({ place, i })).sort((a, b) => a.place - b.place);
  for (let n = 1; n < order.length; n++) order[n].place = Math.max(order[n].place, order[n - 1].place + distance);
  const result = Array<number>(places.length);
  for (const { place, i } of order) result[i] = place;
  return result;
}

const round = (value: number) => Math.round(value * 10) / 10;

function* doublings(min: number, max: number): Generator<number> {
  // At most about eight lines.
  const factor = 2 ** Math.max(1, Math.ceil(Math.log2(max / min) / 8));
  for (let y = min; y <= max * 1.001; y *= factor) yield y;
}

function* decades(min: number, max: number): Generator<number> {
  for (let x = 10 ** Math.ceil(Math.log10(min) - 0.001); x <= max * 1.001; x *= 10) yield x;
}

function* steps(max: number): Generator<number> {
  const size = [1, 2, 5].map((n) => n * 10 ** Math.floor(Math.log10(max / 5))).findLast((n) => max / n >= 4)!;
  for (let x = 0; x <= max; x += size) yield x;
}

const UNITS: [number, string][] = [[1e6, " M"], [1e3, " k"]];

function figure(value: number): string {
  const [size, unit] = UNITS.find(([size]) => value >= size) ?? [1, ""];
  return `${Number((value / size).toPrecision(3))}${unit}`;
}
