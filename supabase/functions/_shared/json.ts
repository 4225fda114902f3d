// JSON as bytes: checked before it is parsed, passed on without.
//
// An isolate has one second of CPU for all its requests together. Four megabytes of hostile JSON take more than that to parse
// (half a million different names: 0.6 s), and a page of eight megabytes that is parsed and printed again for nothing takes
// as much. Looking at each byte once takes 20 ms.

/** Deeper JSON is refused: no message needs it, and recursion on it would end in the database's stack limit. */
export const MAX_DEPTH = 100;
/** Strings, numbers, literals, arrays and objects in one body. */
export const MAX_VALUES = 100_000;
/** Different names of fields in one body. To parse one costs as much as ten values. */
export const MAX_NAMES = 20_000;

const QUOTE = 0x22, COMMA = 0x2c, ZERO = 0x30, COLON = 0x3a, BACKSLASH = 0x5c;
const OPEN_ARRAY = 0x5b, CLOSE_ARRAY = 0x5d, OPEN_OBJECT = 0x7b, CLOSE_OBJECT = 0x7d;

/** What JSON is made of, as far as its bytes show: of text that is not JSON it says something, and no matter what. */
export interface JsonShape {
  /** How many levels below the outermost one something is. */
  depth: number;
  values: number;
  /** How many different names, nearly: some are taken for one another. */
  names: number;
  /** How many members all objects have together, one that stands twice counted twice. */
  members: number;
  /**
   * Whether there may be something in it that cannot be stored: an escaped NUL or half of a surrogate pair, a number beyond
   * what JavaScript keeps exactly.
   */
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
        if (json[i] === BACKSLASH && json[++i] === 0x75 /* u */) {
          const isHalf = (json[i + 1] | 0x20) === 0x64 /* d */ && json[i + 2] >= 0x38 /* 8 */;
          const isNul = json[i + 1] === ZERO && json[i + 2] === ZERO && json[i + 3] === ZERO && json[i + 4] === ZERO;
          shape.suspicious ||= isHalf || isNul;
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

// ---- passed on ------------------------------------------------------------------------------------------------------

const encoder = new TextEncoder();
const decoder = new TextDecoder();

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
  const bytes = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let length = 0;
  for (const piece of pieces) {
    bytes.set(piece, length);
    length += piece.length;
  }
  return new RawJson(bytes);
}
