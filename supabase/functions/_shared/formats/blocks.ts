// Between the dialects: a message in any shape as a turn of blocks. Each dialect reads and writes blocks, none knows another.
//
// Pure and total: whatever a row holds, something comes out, and nothing throws.
import type { Json } from "../database.types.ts";
import type { JsonObject } from "../json.ts";

export const FORMATS = ["chat", "responses", "anthropic", "gemini", "ai-sdk", "langchain"] as const;
/** A shape in which a provider or a library wants its messages. */
export type Format = typeof FORMATS[number];

/** A message as the database answers it, as far as conversions look at it. */
export interface Row {
  id?: string;
  sequence_order?: number;
  type?: string | null;
  role?: string | null;
  content?: string | null;
  parts?: Json[] | null;
  name?: string | null;
  function_call?: JsonObject | null;
  tool_calls?: Json[] | null;
  tool_call_id?: string | null;
  item_id?: string | null;
  item?: JsonObject | null;
  source?: JsonObject | null;
  author?: string | null;
  model?: string | null;
  usage?: JsonObject | null;
  status?: string | null;
}

/** What a message says beyond our columns, in its own dialect's words. */
export interface Source {
  dialect: Format;
  rest: JsonObject;
}

/** Who signed it, or nobody: thinking goes only to the provider that can read it. */
export type ReasoningType = "reasoning" | "thinking" | "thought" | "reasoning_text";

interface FromPart {
  /** What the block was read from: a writer of the same dialect passes it on as it is. */
  native?: Json;
}
export interface Text extends FromPart {
  type: "text";
  text: string;
}
export interface Refusal extends FromPart {
  type: "refusal";
  text: string;
}
export interface Media extends FromPart {
  type: "image" | "audio" | "video" | "file";
  url?: string;
  /** Base64. */
  data?: string;
  /** Of a file that was uploaded to a provider. */
  id?: string;
  mediaType?: string;
  filename?: string;
  detail?: string;
}
export interface Reasoning extends FromPart {
  type: ReasoningType;
  text: string;
}
export interface Call extends FromPart {
  type: "call";
  id?: string;
  name: string;
  /** As the model wrote it; of a custom tool a text, else JSON. */
  arguments: string;
  custom?: true;
  /** The type of item that it came as, where that is no function call. */
  itemType?: string;
}
export interface Result extends FromPart {
  type: "result";
  id?: string;
  name?: string;
  output: Json | Block[];
  isError?: boolean;
}
/** What nobody but its own dialect knows: a hosted tool's call, an approval, a source that people are shown. */
export interface Other extends FromPart {
  type: "hosted" | "approval" | "shown" | "compaction" | "unknown";
  name: string;
  value: Json;
}
const MEDIA = new Set(["image", "audio", "video", "file"]);
export const isMedia = (block: Block): block is Media => MEDIA.has(block.type);

export type Block = Text | Refusal | Media | Reasoning | Call | Result | Other;

export type Role = "system" | "user" | "assistant" | "tool";

export interface Turn {
  role: Role;
  /** What the row says: developer for a system turn, function for a tool's. */
  rowRole: string;
  name?: string;
  blocks: Block[];
  row: Row;
}

/** Blocks that a part holds are arrays of these; JSON of a tool's own never has this prototype. */
export class Blocks extends Array<Block> {
  static override get [Symbol.species]() {
    return Array;
  }
}

export type Rule = "held" | "text" | "out";

const rules = (...of: [Rule, Rule, Rule, Rule, Rule, Rule]) =>
  Object.fromEntries(FORMATS.map((format, i) => [format, of[i]])) as Record<Format, Rule>;
const [held, text, out] = ["held", "text", "out"] as const;

/**
 * What becomes of a block in which format: held as it is, turned into text, or left out of a context. What a page of messages
 * shows, it shows as text where a context leaves it out. `private.format_leaves_out` is the same table in SQL, as far as it is
 * asked: reasoning and compaction. Everything else is in, so that a context never drops what a user said.
 */
export const RULES: Record<Block["type"], Record<Format, Rule>> = {
  //                    chat  responses anthropic gemini ai-sdk langchain
  text: rules(held, held, held, held, held, held),
  refusal: rules(held, held, text, text, text, text),
  image: rules(held, held, held, held, held, held),
  audio: rules(held, text, text, held, held, held),
  video: rules(text, text, text, held, held, held),
  file: rules(held, held, held, held, held, held),
  call: rules(held, held, held, held, held, held),
  result: rules(held, held, held, held, held, held),
  reasoning: rules(out, held, out, out, held, held),
  thinking: rules(out, out, held, out, held, held),
  thought: rules(out, out, out, held, held, held),
  reasoning_text: rules(out, out, out, out, held, held),
  compaction: rules(out, held, out, out, out, out),
  hosted: rules(text, held, text, text, text, text),
  approval: rules(text, held, text, text, text, text),
  shown: rules(out, out, out, out, held, out),
  unknown: rules(text, text, text, text, text, text),
};
