// What every dialect writes with: texts for what it does not hold, ids of calls, and where each message comes from.
import { isObject, type JsonObject } from "../json.ts";
import {
  type Block,
  Blocks,
  type Call,
  type Format,
  isMedia,
  type Media,
  type Result,
  type Row,
  RULES,
  type Text,
  type Turn,
} from "./blocks.ts";

/** JSON as an object, for APIs that take no other arguments. */
export function inputOf(call: Call): JsonObject {
  if (!call.custom) {
    try {
      const input = JSON.parse(call.arguments);
      return isObject(input) ? input : { input };
    } catch { /* a model's JSON may be broken: it is passed on as the text that it is */ }
    if (call.arguments.trim() === "") return {};
  }
  return { input: call.arguments };
}

/** The address of a data: URL, or of what lies elsewhere. */
export const urlOf = ({ url, data, mediaType }: Media): string | undefined =>
  data === undefined ? url : `data:${mediaType ?? "application/octet-stream"};base64,${data}`;

const isBlob = (value: string) => value.length >= 200 && /^(data:[!-~]*|[A-Za-z0-9+/=_-]*)$/.test(value);

const withoutBlobs = (_: string, inner: unknown) => typeof inner === "string" && isBlob(inner) ? "…" : inner;

/** A block as text, where a format holds nothing like it: what it is, and what it says. Bytes are left out. */
export function textOf(block: Block): string {
  switch (block.type) {
    case "text":
    case "refusal":
      return block.text;
    case "image":
    case "audio":
    case "video":
    case "file":
      return `[${[block.type, block.filename, block.url ?? block.id].filter(Boolean).join(" ")}]`;
    case "call":
      return `[${block.name} ${block.arguments}]`;
    case "result":
      return outputText(block);
    case "reasoning":
    case "thinking":
    case "thought":
    case "reasoning_text":
      return block.text || "[reasoning]";
    default: {
      const { type: _, ...value } = isObject(block.value) ? block.value : { value: block.value };
      const text = JSON.stringify(value);
      return `[${block.name} ${text.length < 200 ? text : JSON.stringify(value, withoutBlobs)}]`;
    }
  }
}

/** What a tool said, as text. */
export function outputText({ output }: Result): string {
  if (output instanceof Blocks) return output.map(textOf).join("\n");
  return typeof output === "string" ? output : JSON.stringify(output);
}

/** What a tool said: texts and media. */
export function outputBlocks(result: Result): Block[] {
  if (!(result.output instanceof Blocks)) return [{ type: "text", text: outputText(result) }];
  return result.output.map((block) => isMedia(block) ? block : { type: "text", text: textOf(block) });
}

/** Where a format has no mark for it. */
export const withError = (result: Result, text: string): string =>
  result.isError && !/^\W*error/i.test(text) ? `Error: ${text}` : text;

/** A number for a text: the same always. */
function hash(text: string): string {
  let [a, b] = [0xdeadbeef, 0x41c6ce57];
  for (let i = 0; i < text.length; i++) {
    a = Math.imul(a ^ text.charCodeAt(i), 2654435761);
    b = Math.imul(b ^ text.charCodeAt(i), 1597334677);
  }
  return (4294967296 * (b >>> 11) + (a >>> 0)).toString(36);
}

/** An id or a name in the characters and the length that an API takes: the same always, and another for another. */
export function fit(value: string, max: number, pattern = /[^A-Za-z0-9_-]/g): string {
  const fitting = value.replace(pattern, "_");
  if (fitting === value && value.length <= max && value !== "") return value;
  const mark = `_${hash(value)}`;
  return fitting.slice(0, max - mark.length) + mark;
}

/**
 * The ids of calls and their results, in pairs. Some providers use theirs again, and some have none: then a call and the next
 * result of its name belong together.
 */
export class CallIds {
  readonly #made = new Map<string, { id: string; call: Call; turn: Turn }>();
  /** How many calls an id was made for. */
  readonly #uses = new Map<string, number>();
  /** Calls without an id, in their order, and how many have their result. */
  readonly #unnamed = new Map<string, { calls: { id: string; call: Call }[]; answered: number }>();

  /** @param max The longest id that the API takes. @param unique Whether an id may stand once only. */
  constructor(readonly max: number, readonly unique: boolean) {}

  /** The id to send, or nothing where this message has made the call already. */
  call(call: Call, turn: Turn): string | undefined {
    if (call.id !== undefined && this.#made.get(call.id)?.turn === turn) return undefined;
    const base = fit(call.id ?? `call_${call.name}`, this.max);
    const id = this.#next(base);
    if (call.id !== undefined) {
      this.#made.set(call.id, { id, call, turn });
    } else {
      const { calls } = this.#of(call.name);
      calls.push({ id, call });
    }
    return id;
  }

  /** The id of the call that this answers, and the call where it is known. */
  result(result: Result): { id: string; call?: Call } {
    if (result.id !== undefined) return this.#made.get(result.id) ?? { id: fit(result.id, this.max) };
    const name = result.name ?? "tool";
    const of = this.#of(name);
    return of.calls[of.answered++] ?? { id: fit(`call_${name}`, this.max) };
  }

  #of(name: string) {
    const of = this.#unnamed.get(name) ?? { calls: [], answered: 0 };
    this.#unnamed.set(name, of);
    return of;
  }

  #next(base: string): string {
    let uses = this.#uses.get(base) ?? 0;
    let id = base;
    do {
      uses++;
      if (uses > 1) id = fit(`${base}_${uses}`, this.max);
    } while (this.unique && uses > 1 && this.#uses.has(id));
    this.#uses.set(base, uses);
    if (!this.unique) return base;
    this.#uses.set(id, Math.max(this.#uses.get(id) ?? 0, 1));
    return id;
  }
}

/** What was turned into text or left out, and of which message. */
export interface Change {
  sequence_order?: number;
  type: string;
  as: "text" | "out";
}

/** The messages that a dialect made of turns, and which turns each is made of. */
export class Written {
  readonly messages: JsonObject[] = [];
  readonly turns: Turn[][] = [];
  /** What leads and stands beside the messages: instructions. */
  readonly system: { block: Text; turn: Turn }[] = [];

  constructor(
    /** One context to be sent, or a message for a reader. */
    readonly ready: boolean,
    readonly changes: Change[] = [],
  ) {}

  add<T extends JsonObject>(message: T, turn: Turn): T {
    this.messages.push(message);
    this.turns.push([turn]);
    return message;
  }

  /** Puts what a turn says beside the messages. */
  instruct(turn: Turn): void {
    for (const block of turn.blocks) {
      this.system.push({ block: { type: "text", text: textOf(block), native: block.native }, turn });
    }
  }

  /** Says that the last message, or this one, is made of a turn too. */
  join(turn: Turn, at = this.turns.length - 1): void {
    if (!this.turns[at]?.includes(turn)) this.turns[at]?.push(turn);
  }

  change(turn: Turn, type: string, as: Change["as"]): void {
    const last = this.changes.at(-1);
    if (last?.sequence_order === turn.row.sequence_order && last?.type === type && last.as === as) return;
    this.changes.push({ sequence_order: turn.row.sequence_order, type, as });
  }
}

/** A dialect: what it holds, reads and writes. */
export interface Dialect {
  /** Whether a message that is not of our own shape is of this one. */
  recognises(message: JsonObject): boolean;
  /** A message as columns, or what is wrong with it. */
  read(message: JsonObject): Row | string;
  /** The message that `read` was given, of a row that is of this dialect. */
  restore?(row: Row): JsonObject | undefined;
  /** What of a kind that the table calls held is not, from whom or in which form. */
  holds(block: Block, turn: Turn): boolean;
  /** Whether a part is the dialect's own, and passed on whatever the table says. */
  owns(part: JsonObject, turn: Turn): boolean;
  write(turns: Turn[], to: Written): void;
  /** What was written, under the names that a request has for it. */
  request(to: Written): JsonObject;
}

/** The AI SDK's mark between two steps: it says nothing. */
const isStep = (block: Block) => block.type === "shown" && block.name === "step-start";

/** Formats whose messages have a name. */
const NAMED: Format[] = ["chat", "langchain"];

/** Of these only their own dialect knows more than that they are there. */
const OWN = new Set<Block["type"]>(["hosted", "approval", "shown", "unknown", "image", "audio", "video", "file"]);

/** The turn with what the format holds of it, and the rest as text. */
export function adapt(turn: Turn, format: Format, dialect: Dialect, to: Written): Turn {
  const blocks: Block[] = [];
  // The summary's is ours.
  const isNamed = turn.name !== undefined && turn.row.sequence_order !== undefined;
  if (to.ready && isNamed && !NAMED.includes(format)) to.change(turn, "name", "out");
  for (const block of turn.blocks) {
    // An empty text beside others says nothing, and stands between a call and its result.
    if (to.ready && block.type === "text" && !/\S/.test(block.text) && turn.blocks.length > 1) continue;
    const rule = RULES[block.type][format];
    const isOwn = isObject(block.native) && OWN.has(block.type) && dialect.owns(block.native, turn);
    if (isOwn || rule === "held" && dialect.holds(block, turn)) {
      blocks.push(block);
    } else if (rule === "out" && (to.ready || isStep(block))) {
      if (!isStep(block)) to.change(turn, block.type, "out");
    } else {
      to.change(turn, block.type, "text");
      blocks.push({ type: "text", text: textOf(block) });
    }
  }
  return { ...turn, blocks };
}
