/** Text as people write it, as far as storage and search can tell: a few words often, most words seldom. */

const VOCABULARY = 5000;

/** mulberry32: the same numbers in every run. */
function randomNumbers(seed: number): () => number {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

const random = randomNumbers(8);
const pick = <T>(values: ArrayLike<T>) => values[Math.floor(random() * values.length)];
const syllable = () => pick("bcdfghklmnprstvw") + pick("aeiou") + (random() < 0.3 ? pick("lnrst") : "");
const word = (syllables: number) => Array.from({ length: syllables }, syllable).join("");
/** Short words are the frequent ones. */
const words = Array.from(
  { length: VOCABULARY },
  (_, rank) => word(1 + Math.floor(Math.log10(1 + rank) * random() * 1.5)),
);

/** A text of exactly this many characters. Ranks follow Zipf's law. */
export function text(length: number): string {
  let result = "";
  while (result.length < length) {
    result += words[Math.floor(VOCABULARY ** random()) - 1] + " ";
  }
  return result.slice(0, length);
}

/** What a chat stores at once. */
export interface Turn {
  user: string;
  assistant: string;
}

let turns = 0;

/** A turn of 1 KB. No two are equal, so that a lost one is noticed. */
export function newTurn(): Turn {
  const label = `turn ${++turns} `;
  return { user: label + text(512 - label.length), assistant: label + text(512 - label.length) };
}
