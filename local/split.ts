/** Reads files of any size for `npm run import`, and cuts them into requests that the API takes. */
import { Buffer } from "node:buffer";
import { shapeOf } from "../supabase/functions/_shared/json.ts";
import type { ImportEntry, ImportReport } from "../supabase/functions/conversations/transfer.ts";

/** Below what the API takes in a request, with room for the line of ids. */
const MAX_BYTES = 3.75 * 1024 * 1024;
/** One message that is larger than the rest of the room may fill the request alone. */
const MAX_LINE_BYTES = 3.98 * 1024 * 1024;
const MAX_CONVERSATIONS = 100;
const MAX_LINES = 4_990;
const MAX_VALUES = 190_000;

const encoder = new TextEncoder();

/** What a line takes of the room that a request has. */
interface Size {
  bytes: number;
  values: number;
  lines: number;
}

function sizeOf(line: string): Size {
  const bytes = encoder.encode(line);
  return { bytes: bytes.length + 1, values: shapeOf(bytes).values, lines: 1 };
}

const sum = (a: Size, b: Size): Size => ({
  bytes: a.bytes + b.bytes,
  values: a.values + b.values,
  lines: a.lines + b.lines,
});

const NOTHING: Size = { bytes: 0, values: 0, lines: 0 };

// ---- reading --------------------------------------------------------------------------------------------------------

/**
 * A file's bytes as text with one character for each, so that it can be cut anywhere: what is cut out of it is decoded
 * by {@link decode}. A byte that is not UTF-8 then damages its line and not the file.
 */
export async function* readBytes(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  let first = true;
  for await (const { buffer, byteOffset, length } of chunks) {
    const text = Buffer.from(buffer, byteOffset, length).toString("latin1");
    yield first ? text.replace(/^\xef\xbb\xbf/, "") : text;
    first = false;
  }
}

/** The text of what was read as bytes. If that is not UTF-8, something that is sure not to be JSON, as near as it gets. */
export function decode(bytes: string): string {
  const buffer = Buffer.from(bytes, "latin1");
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(buffer);
  } catch {
    return `${new TextDecoder().decode(buffer)}\ufffd`; // no JSON ends so
  }
}

/** The lines of a text that comes in pieces, without their line ends. */
export async function* readLines(chunks: AsyncIterable<string>): AsyncGenerator<string> {
  let pieces: string[] = [];
  for await (const chunk of chunks) {
    const [first, ...rest] = chunk.split("\n");
    pieces.push(first);
    for (const piece of rest) {
      yield pieces.join("");
      pieces = [piece];
    }
  }
  const last = pieces.join("");
  if (last) yield last;
}

/**
 * The elements of a top-level JSON array that comes in pieces, each as text. Looks at brackets and strings only, so it
 * holds one element at a time.
 *
 * @throws {SyntaxError} If the text is no array, or ends before the array does.
 */
export async function* readElements(chunks: AsyncIterable<string>): AsyncGenerator<string> {
  let depth = 0;
  let inString = false;
  let escaped = false;
  let ended = false;
  let pieces: string[] = [];
  for await (const chunk of chunks) {
    let start = 0;
    for (let i = 0; i < chunk.length; i++) {
      const code = chunk.charCodeAt(i);
      if (inString) {
        if (escaped) escaped = false;
        else if (code === 0x5c /* \ */) escaped = true;
        else if (code === 0x22 /* " */) inString = false;
        continue;
      }
      if (code === 0x22 && depth > 0) {
        inString = true;
      } else if (code === 0x5b /* [ */ || code === 0x7b /* { */) {
        if (depth === 0 && (code !== 0x5b || ended)) throw new SyntaxError("The file is not one JSON array.");
        if (depth++ === 0) start = i + 1;
      } else if (code === 0x5d /* ] */ || code === 0x7d /* } */) {
        depth--;
        ended = depth === 0;
      }
      const between = depth === 1 && code === 0x2c; /* , */
      if (between || ended && depth === 0 && (code === 0x5d || code === 0x7d)) {
        const element = (pieces.join("") + chunk.slice(start, i)).trim();
        pieces = [];
        start = i + 1;
        if (element || between) yield element;
      } else if (depth === 0 && code !== 0x5d && !/\s/.test(chunk[i]) && code !== 0xfeff) {
        throw new SyntaxError("The file is not one JSON array.");
      }
    }
    if (depth > 0) pieces.push(chunk.slice(start));
  }
  if (!ended) throw new SyntaxError("The file ends before its array does: it was cut.");
}

/** What a line is, without reading all of it where its type stands first. */
export function lineType(line: string): string | undefined {
  const type = line.match(/^\s*\{\s*"type"\s*:\s*"(\w+)"/)?.[1];
  if (type) return type;
  try {
    return JSON.parse(line)?.type;
  } catch {
    return undefined; // goes to the API as it is, which tells what is wrong with it
  }
}

// ---- cutting --------------------------------------------------------------------------------------------------------

interface Unit {
  lines: string[];
  /** Where each of them stands in the file. */
  numbers: number[];
  size: Size;
  id?: string;
  parentId?: string;
  deleted: boolean;
  /** How many of its messages are there already, in parts. */
  sent: number;
  /** What became of it in the parts before. */
  status?: ImportEntry["status"];
  /** Its first line without the part's own fields, where the database knows how much of it is there. */
  sourced?: { source: object };
  /** Something was wrong with a part: the rest is not sent. */
  lost?: boolean;
}

export interface SplitterOptions {
  /** Sends the body of one request. */
  send: (body: string) => Promise<ImportReport>;
  /** Receives each report, its lines numbered as in the file. */
  onReport: (report: ImportReport) => void;
  maxBytes?: number;
  maxConversations?: number;
}

/**
 * Collects lines into requests. A request ends where a conversation ends; one that is too large for a request is cut
 * into parts, and stays hidden until the last part is there.
 */
export class Splitter {
  readonly #send;
  readonly #onReport;
  readonly #maxBytes;
  readonly #maxConversations;
  readonly #ids = new Map<string, string>();
  /** What has to be cleared at the end unless a fork shows it: new ids by old ones. */
  readonly #hidden = new Map<string, string>();
  #whole: Unit[] = [];
  #wholeSize = NOTHING;
  #current?: Unit;

  constructor({ send, onReport, maxBytes = MAX_BYTES, maxConversations = MAX_CONVERSATIONS }: SplitterOptions) {
    this.#send = send;
    this.#onReport = onReport;
    this.#maxBytes = maxBytes;
    this.#maxConversations = maxConversations;
  }

  /** A line that begins a conversation. */
  async begin(line: string, number: number): Promise<void> {
    this.#endCurrent();
    const size = sizeOf(line);
    if (this.#whole.length >= this.#maxConversations || !this.#fits(this.#size(), size)) await this.#flush();
    this.#current = { lines: [line], numbers: [number], size, deleted: false, sent: 0 };
    try {
      const { id, parent_id, deleted, ...rest } = JSON.parse(line);
      Object.assign(this.#current, { id, parentId: parent_id ?? undefined, deleted: deleted === true });
      if (typeof rest.source === "object" && rest.source) this.#current.sourced = { id, ...rest };
    } catch { /* the API tells what is wrong with it */ }
    if (size.bytes > MAX_LINE_BYTES) this.#tooLong(number);
  }

  /** Any other line: it goes where the conversation above it goes. */
  async add(line: string, number: number): Promise<void> {
    const size = sizeOf(line);
    this.#current ??= { lines: [], numbers: [], size: NOTHING, deleted: false, sent: 0 };
    if (this.#current.lost) return;
    if (size.bytes + sizeOf(this.#current.lines[0] ?? "").bytes > MAX_LINE_BYTES) return this.#tooLong(number);
    if (this.#whole.length > 0 && !this.#fits(this.#size(), size)) await this.#flush();
    if (this.#current.lines.length > 1 && !this.#fits(this.#current.size, size)) await this.#sendPart();
    if (this.#current.lost) return;
    this.#current.lines.push(line);
    this.#current.numbers.push(number);
    this.#current.size = sum(this.#current.size, size);
  }

  /** Drops the conversation that is being read: the file says that it is not whole. */
  drop(): void {
    this.#current = undefined;
  }

  /** Sends the rest, and has what no fork shares cleared. */
  async end(): Promise<void> {
    this.#endCurrent();
    await this.#flush();
    const entries = [...this.#hidden];
    for (let i = 0; i < entries.length; i += 10_000) {
      await this.#send(`${JSON.stringify({ type: "ids", map: Object.fromEntries(entries.slice(i, i + 10_000)) })}\n`);
    }
  }

  #endCurrent(): void {
    if (!this.#current) return;
    this.#whole.push(this.#current);
    this.#wholeSize = sum(this.#wholeSize, this.#current.size);
    this.#current = undefined;
  }

  #size(): Size {
    return sum(this.#wholeSize, this.#current?.size ?? NOTHING);
  }

  #fits(there: Size, more: Size): boolean {
    const { bytes, values, lines } = sum(there, more);
    return bytes <= this.#maxBytes && values <= MAX_VALUES && lines <= MAX_LINES;
  }

  async #flush(): Promise<void> {
    const units = this.#whole.filter((unit) => unit.lines.length > 0);
    this.#whole = [];
    this.#wholeSize = NOTHING;
    if (units.length > 0) await this.#request(units);
  }

  /** What there is of the current conversation, which goes on. */
  async #sendPart(): Promise<void> {
    const unit = this.#current!;
    unit.lines[0] = unit.lines[0].replace(/^\s*\{/, '{"more":true,');
    const last = unit.lines.at(-1)!;
    const [entry] = (await this.#request([unit], true)).conversations;
    if (entry?.new_id) {
      if (!unit.sourced) this.#hidden.set(unit.id ?? entry.new_id, entry.new_id);
      const line = JSON.stringify(
        unit.sourced
          ? { ...unit.sourced, source: { ...unit.sourced.source, after: JSON.parse(last).item_id } }
          : { type: "conversation", id: unit.id, continues: entry.new_id },
      );
      const numbers = [unit.numbers[0]];
      Object.assign(unit, { lines: [line], numbers, size: sizeOf(line), parentId: undefined });
    } else {
      Object.assign(unit, { lines: [], numbers: [], size: NOTHING, lost: true });
    }
  }

  #tooLong(line: number): void {
    const unit = this.#current!;
    const message = "The line is larger than a request may be.";
    const error = { code: "payload_too_large", message, retryable: false, line };
    const entry = { line: unit.numbers[0] ?? line, id: unit.id ?? null, new_id: null, messages: 0, notes: [], error };
    this.#onReport({
      imported: 0,
      grown: 0,
      unchanged: 0,
      failed: 1,
      skipped: 0,
      messages: 0,
      left_out: {},
      conversations: [{ ...entry, status: "failed" }],
    });
    Object.assign(unit, { lines: [], numbers: [], size: NOTHING, lost: true });
  }

  async #request(units: Unit[], isPart = false): Promise<ImportReport> {
    const map: Record<string, string> = {};
    for (const { parentId } of units) {
      const newId = parentId !== undefined && this.#ids.get(parentId);
      if (newId) map[parentId] = newId;
    }
    const lines = [JSON.stringify({ type: "ids", map, more: true }), ...units.flatMap((unit) => unit.lines)];
    const numbers = [0, ...units.flatMap((unit) => unit.numbers)];
    const owners = [undefined, ...units.flatMap((unit) => unit.lines.map(() => unit))];
    const report = await this.#send(`${lines.join("\n")}\n`);

    for (const entry of report.conversations) {
      const unit = owners[entry.line - 1];
      entry.line = numbers[entry.line - 1] ?? entry.line;
      if (entry.error?.line) entry.error.line = numbers[entry.error.line - 1] ?? entry.error.line;
      if (entry.new_id && entry.id !== null) this.#ids.set(entry.id, entry.new_id);
      if (entry.new_id && unit) {
        // A conversation counts when it is whole.
        unit.sent += entry.messages;
        report.messages += isPart ? -entry.messages : unit.sent - entry.messages;
        const status = entry.status;
        if (status === "imported" || status === "grown" || status === "unchanged") {
          report[status]--;
          unit.status = [unit.status, status].includes("imported")
            ? "imported"
            : [unit.status, status].includes("grown")
            ? "grown"
            : "unchanged";
          entry.status = unit.status;
          if (!isPart) report[unit.status]++;
        }
      }
      if (entry.new_id && unit?.deleted) this.#hidden.set(entry.id ?? entry.new_id, entry.new_id);
    }
    this.#onReport(report);
    return report;
  }
}
