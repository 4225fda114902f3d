// Messages in the shape that a provider or a library wants them, and back. docs/formats.md has the rules.
//
// Pure: no request, no database, no clock. A client package can use this folder as it is.
import { isObject, type JsonObject } from "../json.ts";
import { aiSdk } from "./ai_sdk.ts";
import { anthropic } from "./anthropic.ts";
import { chat } from "./chat.ts";
import { type Format, FORMATS, type Row, type Turn } from "./blocks.ts";
import { toTurn } from "./read.ts";
import { adapt, type Change, type Dialect, Written } from "./write.ts";
import { gemini } from "./gemini.ts";
import { langchain } from "./langchain.ts";
import { responses } from "./responses.ts";

export { type Format, FORMATS, type Row, RULES } from "./blocks.ts";

const DIALECTS: Record<Format, Dialect> = { chat, responses, anthropic, gemini, "ai-sdk": aiSdk, langchain };

/** Items, LangChain's messages and UIMessages say what they are. Chat Completions' own are known by what is left. */
const TRIED: Format[] = ["responses", "langchain", "anthropic", "gemini", "ai-sdk", "chat"];

/** Of which dialect a message is that is not of our own shape. */
export const recognise = (message: unknown): Format | undefined =>
  isObject(message) ? TRIED.find((format) => DIALECTS[format].recognises(message)) : undefined;

/**
 * A message of a dialect as the columns of ours.
 *
 * @returns What it has, or in words what is wrong with it.
 */
export const readMessage = (message: JsonObject, format: Format): Row | string => DIALECTS[format].read(message);

/** One message, as one or more of a format: nothing is left out, merged or moved. */
export function writeMessage(row: Row, format: Format): JsonObject[] {
  const dialect = DIALECTS[format];
  const restored = isObject(row.source) && row.source.dialect === format && isObject(row.source.rest)
    ? dialect.restore?.(row)
    : undefined;
  if (restored) return [restored];
  const to = new Written(false);
  dialect.write([adapt(safeTurn(row), format, dialect, to)], to);
  return to.messages;
}

/** A context that can be sent as it is. */
export interface FormattedContext {
  /** The messages under the name that the API has for them, instructions beside them where it keeps those apart. */
  request: JsonObject;
  /** Of which messages of the conversation each is made. The summary is none. */
  sequences: number[][];
  /** Written by the user's own client, or by a backend: by a user, as soon as a part of it is. Null: the summary. */
  authors: (string | null)[];
  changes: Change[];
}

export function writeContext(rows: Row[], format: Format): FormattedContext {
  const dialect = DIALECTS[format];
  const to = new Written(true);
  dialect.write(approvalsLast(rows.map(safeTurn)).map((turn) => adapt(turn, format, dialect, to)), to);
  return {
    request: dialect.request(to),
    sequences: to.turns.map(sequencesOf),
    authors: to.turns.map(authorOf),
    changes: to.changes,
  };
}

/**
 * Where an approval is text, nothing may stand between a call and its result: what people decided comes behind the results that
 * came with it. Where it is none, the order of these does not matter.
 */
function approvalsLast(turns: Turn[]): Turn[] {
  const ordered: Turn[] = [];
  let decided: Turn[] = [];
  for (const turn of turns) {
    const isAnswer = turn.role !== "assistant" && turn.blocks.some(({ type }) => type === "approval");
    const hasResult = turn.blocks.some(({ type }) => type === "result");
    if (isAnswer && !hasResult) {
      decided.push(turn);
      continue;
    }
    if (!hasResult) {
      ordered.push(...decided);
      decided = [];
    }
    const first = (block: Turn["blocks"][number]) => block.type === "result" ? 0 : 1;
    ordered.push(isAnswer ? { ...turn, blocks: turn.blocks.toSorted((a, b) => first(a) - first(b)) } : turn);
  }
  return [...ordered, ...decided];
}

/** A row of plain REST may hold anything where we expect an object. */
const safeTurn = (row: Row): Turn =>
  toTurn({ ...row, source: isObject(row.source) && isObject(row.source.rest) ? row.source : null });

const sequencesOf = (turns: Turn[]) =>
  [...new Set(turns.map(({ row }) => row.sequence_order))].filter((number) => number !== undefined).toSorted((a, b) =>
    a - b
  );

function authorOf(turns: Turn[]): string | null {
  const authors = turns.map(({ row }) => row.author).filter((author) => author != null);
  return authors.includes("user") ? "user" : authors[0] ?? null;
}

/** What a client may ask for: our own shape, or a dialect. */
export const ALL_FORMATS = ["message", ...FORMATS] as const;
