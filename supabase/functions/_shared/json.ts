// JSON as bytes: checked before it is parsed, passed on without.
//
// An isolate has one second of CPU for all its requests together. Four megabytes of hostile JSON take more than that to parse
// (half a million different names: 0.6 s), and a page of eight megabytes that is parsed and printed again for nothing takes
// as much. Looking at each byte once takes 20 ms.

import type { Json } from "./database.types.ts";

export type JsonObject = { [key: string]: Json | undefined };
export const isObject = (value: unknown): value is JsonObject =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** Deeper JSON is refused: no message needs it, and recursion on it would end in the database's stack limit. */
export const MAX_DEPTH = 100;
/** Strings, numbers, literals, arrays and objects in one body. */
export const MAX_VALUES = 100_000;
/** Different names of fields in one body. To parse one costs as much as ten values. */
export const MAX_NAMES = 20_000;

const QUOTE = 0x22, COMMA = 0x2c, COLON = 0x3a, BACKSLASH = 0x5c, SMALL_U = 0x75;
const OPEN_ARRAY = 0x5b, CLOSE_ARRAY = 0x5d, OPEN_OBJECT = 0x7b, CLOSE_OBJECT = 0x7d;

/** What JSON is made of, as far as its bytes show: of text that is not JSON it says something, and no matter what. */
export interface JsonShape {
  /** How many levels below the outermost one something is. */
  depth: number;
  /** A half of a surrogate pair counts as one: to print it costs as much. */
  values: number;
  /** How many different names, nearly: some are taken for one another. */
  names: number;
  /** How many members all objects have together, one that stands twice counted twice. */
  members: number;
  /** Whether there may be a number in it beyond what JavaScript keeps exactly. */
  suspicious: boolean;
}

/** Looks at each byte once, and allocates next to nothing. Ends early at JSON that is deeper or larger than may be. */
export function shapeOf(json: Uint8Array, maxValues = MAX_VALUES): JsonShape {
  // A short text has no room for too many names, and needs no place to remember them.
  const seen = new Uint8Array(json.length < 4 * MAX_NAMES ? 1 : 1 << 17);
  const shape: JsonShape = { depth: 0, values: 0, names: 0, members: 0, suspicious: false };
  let depth = 0;
  let hash = 0;
  for (let i = 0; i < json.length; i++) {
    const byte = json[i];
    if (byte === QUOTE) {
      shape.values++;
      hash = 0;
      for (i++; i < json.length && json[i] !== QUOTE; i++) {
        hash = (Math.imul(hash, 31) + json[i]) | 0;
        if (json[i] === BACKSLASH && json[++i] === SMALL_U && isHalf(json, i + 1)) {
          if (isPair(json, i + 1)) i += 6;
          else shape.values++;
        }
      }
    } else if (byte === COLON) {
      shape.values--; // the string before it was a name
      shape.members++;
      const slot = (hash ^ hash >>> 15) & (seen.length - 1);
      if (!seen[slot]) shape.names++;
      seen[slot] = 1;
    } else if (byte === OPEN_ARRAY || byte === OPEN_OBJECT) {
      shape.values++;
      if (depth > shape.depth) shape.depth = depth;
      depth++;
    } else if (byte === CLOSE_ARRAY || byte === CLOSE_OBJECT) {
      depth--;
    } else if (byte > 0x20 && byte !== COMMA) {
      shape.values++;
      const start = i;
      for (; json[i + 1] > 0x20 && !isStructure(json[i + 1]); i++) {
        if ((json[i] | 0x20) === 0x65 /* e */) shape.suspicious ||= json[start] !== 0x74 && json[start] !== 0x66;
      }
      if (i - start >= 15) shape.suspicious = true; // 2 ** 53 has 16 digits
    }
    if (shape.depth > MAX_DEPTH || shape.values > maxValues || shape.names > MAX_NAMES) break;
  }
  return shape;
}

/** Whether these are the digits of half of a surrogate pair, of the first or the second, in upper or lower case. */
const isHalf = (json: Uint8Array, i: number) => (json[i] | 0x20) === 0x64 /* d */ && json[i + 1] >= 0x38 /* 8 */;

/** Whether what follows such digits makes it a whole one. */
const isPair = (json: Uint8Array, i: number) =>
  isFirst(json[i + 1]) && json[i + 4] === BACKSLASH && json[i + 5] === SMALL_U && isHalf(json, i + 6) &&
  !isFirst(json[i + 7]);
const isFirst = (digit: number) => digit < 0x43 /* C */ || digit === 0x61 /* a */ || digit === 0x62 /* b */;

function isStructure(byte: number): boolean {
  return byte === COMMA || byte === COLON || byte === QUOTE || byte === OPEN_ARRAY || byte === CLOSE_ARRAY ||
    byte === OPEN_OBJECT || byte === CLOSE_OBJECT;
}

/** How many members the objects in a value have together: fewer than its text has where a name stood twice. */
export function countMembers(value: unknown): number {
  let count = 0;
  if (Array.isArray(value)) {
    for (const element of value) if (typeof element === "object" && element !== null) count += countMembers(element);
  } else if (typeof value === "object" && value !== null) {
    for (const name of Object.keys(value)) {
      const member = (value as Record<string, unknown>)[name];
      count += typeof member === "object" && member !== null ? 1 + countMembers(member) : 1;
    }
  }
  return count;
}

/** Where the first name stands that its object has already: `["messages", 0, "role"]`. Of JSON that does parse. */
export function findDuplicate(json: Uint8Array): PropertyKey[] | undefined {
  const open: { at: PropertyKey; names?: Set<string> }[] = [];
  for (let i = 0; i < json.length; i++) {
    const byte = json[i];
    const inner = open.at(-1);
    if (byte === QUOTE) {
      const end = endOfString(json, i);
      let next = end + 1;
      while (json[next] <= 0x20) next++;
      if (inner?.names && json[next] === COLON) {
        inner.at = JSON.parse(decoder.decode(json.subarray(i, end + 1))) as string;
        if (inner.names.has(inner.at)) return open.map(({ at }) => at);
        inner.names.add(inner.at);
      }
      i = end;
    } else if (byte === OPEN_OBJECT) {
      open.push({ at: "", names: new Set() });
    } else if (byte === OPEN_ARRAY) {
      open.push({ at: 0 });
    } else if (byte === CLOSE_OBJECT || byte === CLOSE_ARRAY) {
      open.pop();
    } else if (byte === COMMA && inner && !inner.names) {
      inner.at = Number(inner.at) + 1;
    }
  }
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();

// ---- what Postgres cannot store -------------------------------------------------------------------------------------
// NUL, and halves of surrogate pairs: tools and models answer both. In the database each is U+FDD0 and the four hex digits of its
// code unit, and U+FDD0 itself, which Unicode keeps free for such ends, is `fdd0`. What differs differs there, too.

const MARK = "\ufdd0";

/** Where something may have to be escaped. */
const UNSTORABLE = /\ufdd0|\\u(?:0000|d[89a-f])/;

/** JSON as JSON.stringify prints it, for the database: strings, names of fields included, are such that it can store them. */
export function escapeJson(json: string): Uint8Array<ArrayBuffer> {
  const bytes = encoder.encode(json);
  if (!UNSTORABLE.test(json)) return bytes;
  const escaped = new Uint8Array(Math.ceil(bytes.length / 3) * 7);
  let length = 0;
  for (let i = 0; i < bytes.length; i++) {
    if (bytes[i] === BACKSLASH && bytes[i + 1] === SMALL_U && isEscapable(bytes, i + 2)) {
      escaped[length++] = 0xef;
      escaped[length++] = 0xb7;
      escaped[length++] = 0x90;
      i++;
      continue;
    }
    escaped[length++] = bytes[i];
    if (bytes[i] === BACKSLASH) {
      escaped[length++] = bytes[++i];
    } else if (bytes[i] === 0x90 && isMark(bytes, i - 2)) {
      escaped[length++] = 0x66;
      escaped[length++] = 0x64;
      escaped[length++] = 0x64;
      escaped[length++] = 0x30;
    }
  }
  return escaped.subarray(0, length);
}

/**
 * JSON of the database's as it was before {@link escapeJson}, in the same bytes. A mark without the digits of something that is
 * escaped is itself: somebody has stored it by `/rest/v1`.
 */
export function unescapeJson(json: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  // Most have no byte of it, which is seen at once. Where a language is full of them, one by one is faster than asking for each.
  let i = json.indexOf(0xef);
  if (i < 0) return json;
  while (i < json.length && !(isMark(json, i) && isEscaped(json, i + 3))) i++;
  let length = i;
  for (; i < json.length; i++) {
    if (isMark(json, i) && isEscaped(json, i + 3)) {
      json[length++] = BACKSLASH;
      json[length++] = SMALL_U; // and the digits that follow
      i += 2;
    } else {
      json[length++] = json[i];
    }
  }
  return json.subarray(0, length);
}

/** The same of JSON that comes in pieces. */
export function unescapingStream(): TransformStream<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>> {
  /** Where a mark and its digits may have begun, seven bytes that go on in the next piece. */
  let rest = new Uint8Array();
  return new TransformStream({
    transform(piece, controller) {
      const bytes = rest.length > 0 ? concat(rest, piece) : piece;
      const begun = bytes.indexOf(0xef, Math.max(bytes.length - 6, 0));
      rest = begun < 0 ? new Uint8Array() : bytes.slice(begun);
      const whole = begun < 0 ? bytes : bytes.subarray(0, begun);
      if (whole.length > 0) controller.enqueue(unescapeJson(whole));
    },
    flush(controller) {
      if (rest.length > 0) controller.enqueue(rest);
    },
  });
}

/** The same for JSON that is the text of a string, parsed already: there they are no escapes any more. */
export const escapeUnits = (json: string) =>
  json.replace(/\0|\p{Surrogate}/gu, (unit) => JSON.stringify(unit).slice(1, -1));

/** Why a text is not stored as it is, if it is not: what names or finds something is, or it is refused. */
export function unstorable(text: string): string | undefined {
  if (text.includes("\0")) return "Contains the NUL character (\\u0000), which Postgres cannot store.";
  if (!text.isWellFormed()) return "Contains a lone surrogate: half of a character cut in two.";
  if (text.includes(MARK)) return "Contains U+FDD0, which stands for what Postgres cannot store.";
}

const isMark = (bytes: Uint8Array, i: number) => bytes[i] === 0xef && bytes[i + 1] === 0xb7 && bytes[i + 2] === 0x90;

/** Whether these are the digits of NUL or of half of a pair, as JSON.stringify prints them. */
function isEscapable(bytes: Uint8Array, i: number): boolean {
  if (bytes[i] === 0x30 /* 0 */) return bytes[i + 1] === 0x30 && bytes[i + 2] === 0x30 && bytes[i + 3] === 0x30;
  return bytes[i] === 0x64 /* d */ && isHex(bytes[i + 1]) && bytes[i + 1] >= 0x38 /* 8 */ &&
    isHex(bytes[i + 2]) && isHex(bytes[i + 3]);
}

const isEscaped = (bytes: Uint8Array, i: number) =>
  isEscapable(bytes, i) ||
  bytes[i] === 0x66 /* f */ && bytes[i + 1] === 0x64 && bytes[i + 2] === 0x64 && bytes[i + 3] === 0x30;

const isHex = (byte: number) => byte >= 0x30 && byte <= 0x39 || byte >= 0x61 && byte <= 0x66;

/**
 * The JSON in a string of JSON, in the same bytes: lines that nobody parses. What Postgres cannot store stays an escape, which it
 * has to be there, too.
 */
export function innerJson({ bytes }: RawJson<string>): Uint8Array<ArrayBuffer> {
  let length = 0;
  for (let i = 1; i < bytes.length - 1; i++) {
    if (bytes[i] !== BACKSLASH) bytes[length++] = bytes[i];
    else if (bytes[++i] === 0x6e /* n */) bytes[length++] = 0x0a;
    else if (bytes[i] === QUOTE || bytes[i] === BACKSLASH) bytes[length++] = bytes[i];
    else bytes[length++] = bytes[i - 1], bytes[length++] = bytes[i];
  }
  return bytes.subarray(0, length);
}

// ---- passed on ------------------------------------------------------------------------------------------------------

/** JSON of a known type that nobody has parsed. */
export class RawJson<T = unknown> {
  declare readonly type: T;

  constructor(readonly bytes: Uint8Array<ArrayBuffer>) {}

  parse(): T {
    return JSON.parse(this.toString());
  }

  /** The JSON as text. */
  toString(): string {
    return decoder.decode(this.bytes);
  }

  /** The members of an object. */
  members(): { [Name in keyof T]: RawJson<T[Name]> } {
    const members: Record<string, RawJson> = {};
    for (const member of this.#children()) {
      const start = member.indexOf(QUOTE);
      const end = endOfString(member, start);
      const name = JSON.parse(decoder.decode(member.subarray(start, end + 1)));
      members[name] = new RawJson(trim(member.subarray(member.indexOf(COLON, end) + 1)));
    }
    return members as { [Name in keyof T]: RawJson<T[Name]> };
  }

  /** The elements of an array. */
  elements(): RawJson<T extends readonly (infer Element)[] ? Element : never>[] {
    return this.#children().map((element) => new RawJson(trim(element)));
  }

  /** What stands between the brackets and commas of the outermost level. */
  #children(): Uint8Array<ArrayBuffer>[] {
    const { bytes } = this;
    const children: Uint8Array<ArrayBuffer>[] = [];
    let depth = 0;
    let start = 0;
    let isEmpty = true;
    for (let i = 0; i < bytes.length; i++) {
      const byte = bytes[i];
      if (byte <= 0x20) continue;
      if (byte === OPEN_ARRAY || byte === OPEN_OBJECT) {
        if (depth++ === 0) {
          start = i + 1;
          continue;
        }
      } else if (byte === CLOSE_ARRAY || byte === CLOSE_OBJECT) {
        if (--depth === 0) {
          if (!isEmpty) children.push(bytes.subarray(start, i));
          break;
        }
      } else if (byte === COMMA && depth === 1) {
        children.push(bytes.subarray(start, i));
        start = i + 1;
      } else if (byte === QUOTE) {
        i = endOfString(bytes, i);
      }
      isEmpty = false;
    }
    return children;
  }
}

/** JSON of a known type on its way through. Whoever has it sends it, or cancels it. */
export class PassedJson<T = unknown> {
  declare readonly type: T;

  constructor(readonly body: ReadableStream<Uint8Array<ArrayBuffer>>) {}
}

function trim(bytes: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  let [start, end] = [0, bytes.length];
  while (start < end && bytes[start] <= 0x20) start++;
  while (end > start && bytes[end - 1] <= 0x20) end--;
  return bytes.subarray(start, end);
}

/** Where the string that begins at a quote ends. Most of the bytes are never looked at one by one: a text may have megabytes. */
function endOfString(bytes: Uint8Array, start: number): number {
  for (let end = start;;) {
    end = bytes.indexOf(QUOTE, end + 1);
    if (end < 0) return bytes.length;
    let escapes = 0;
    while (bytes[end - 1 - escapes] === BACKSLASH) escapes++;
    if (escapes % 2 === 0) return end;
  }
}

/**
 * An object of members that are JSON already, and of such that become it here. What is undefined is left out.
 *
 * @example joinJson<Page<Message>>({ data, has_more, next_cursor: "12" })
 */
export function joinJson<T>(members: { [Name in keyof T]: T[Name] | RawJson<T[Name]> }): RawJson<T> {
  const pieces: Uint8Array[] = [];
  for (const [name, value] of Object.entries(members)) {
    if (value === undefined) continue;
    pieces.push(encoder.encode(`${pieces.length === 0 ? "{" : ","}${JSON.stringify(name)}:`));
    pieces.push(value instanceof RawJson ? value.bytes : encoder.encode(JSON.stringify(value)));
  }
  pieces.push(encoder.encode(pieces.length === 0 ? "{}" : "}"));
  return new RawJson(concat(...pieces));
}

export function concat(...pieces: Uint8Array[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let length = 0;
  for (const piece of pieces) {
    bytes.set(piece, length);
    length += piece.length;
  }
  return bytes;
}
