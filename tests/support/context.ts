// What GET /conversations/:id/context has to answer, written a second time from its documentation and over whole
// histories, and random histories to try it on.

// deno-lint-ignore no-explicit-any -- provider JSON of every shape
export type Json = any;

/** A stored message, as far as the context depends on it. */
export interface Row {
  sequence_order: number;
  type?: string;
  role?: string | null;
  content?: string | null;
  parts?: Json[];
  name?: string;
  function_call?: Json;
  tool_calls?: Json[];
  tool_call_id?: string;
  item?: Json;
  source?: Json;
  model?: string;
  status?: string;
  token_count?: number;
}

// ---- the rules ------------------------------------------------------------------------------------------------------

/** How Postgres prints jsonb, up to the order of keys, which changes no length. */
function jsonbText(value: Json): string {
  if (Array.isArray(value)) return `[${value.map(jsonbText).join(", ")}]`;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  const entries = Object.entries(value).filter(([, child]) => child !== undefined);
  return `{${entries.map(([key, child]) => `${JSON.stringify(key)}: ${jsonbText(child)}`).join(", ")}}`;
}

const counted = new WeakMap<Row, number>();

export function tokens(row: Row): number {
  if (!counted.has(row)) counted.set(row, count(row));
  return counted.get(row)!;
}

function count(row: Row): number {
  if (row.token_count != null) return row.token_count;
  let json = [row.parts, row.function_call, row.tool_calls].filter((value) => value != null).map(jsonbText).join("");
  let text = (row.content ?? "") + (row.name ?? "");
  if (row.item != null) [json, text] = [jsonbText(row.item), ""];
  let images = (row.parts ?? []).filter(({ type }) => type === "image_url" || type === "image").length;
  const low = (row.parts ?? []).filter((part) => part.image_url?.detail === "low").length;
  let blobs = 0;
  json = json.replace(/"([^"]{200,})"/g, (quoted, inner) => {
    if (!/^(data:[!-~]*|[\w+/=-]+)$/.test(inner)) return quoted;
    blobs++;
    return '""';
  });
  text += json;
  images = Math.max(images - blobs, 0);
  const pictures = 1000 * (blobs + Math.max(images - low, 0)) + 85 * Math.min(images, low);
  return 4 + Math.ceil((3 * new TextEncoder().encode(text).length - [...text].length) / 8) + pictures;
}

/** A piece of a message: an element of `parts`, a call, or the message as a whole. */
export interface Piece {
  kind: "user" | "system" | "model" | "reasoning" | "call" | "result" | "compaction" | "empty";
  /** What a call and its result share; null where none can. */
  key?: string | null;
  /** Of reasoning and compaction: who can read it. */
  type?: "reasoning" | "thinking" | "thought" | "reasoning_text" | "compaction";
}

export const FORMATS = ["message", "chat", "responses", "anthropic", "gemini", "ai-sdk", "langchain"] as const;
export type Format = typeof FORMATS[number];

/** Who can read it. What is not for one model's API alone is handed on by the libraries; message shows everything. */
const READERS = {
  reasoning: ["responses", "ai-sdk", "langchain"],
  thinking: ["anthropic", "ai-sdk", "langchain"],
  thought: ["gemini", "ai-sdk", "langchain"],
  reasoning_text: ["ai-sdk", "langchain"],
  compaction: ["responses"],
};

export const isOut = ({ type }: Piece, format: Format): boolean =>
  type !== undefined && format !== "message" && !READERS[type].includes(format);

/** Whether a compaction item stands for what is before it. */
export const compacts = (format: Format) => format === "message" || format === "responses";

/** What a part says that a model thought, by who signed it. */
function thoughtOf(part: Json): Piece {
  const said = (value: Json) => typeof value === "string" && value !== "";
  const by = (name: string): Json[] => [part.providerMetadata?.[name] ?? {}, part.providerOptions?.[name] ?? {}];
  if (
    part.type === "redacted_thinking" ? typeof part.data === "string" : part.type === "thinking" && said(part.signature)
  ) {
    return { kind: "reasoning", type: "thinking" };
  }
  if (part.type === "reasoning") {
    const anthropic = by("anthropic").some(({ signature, redactedData }) => said(signature) || said(redactedData));
    if (anthropic) return { kind: "reasoning", type: "thinking" };
    if (by("google").some(({ thoughtSignature }) => said(thoughtSignature))) {
      return { kind: "reasoning", type: "thought" };
    }
  }
  return { kind: "reasoning", type: part.thought === true ? "thought" : "reasoning_text" };
}

const id = (value: Json) => value == null ? null : `id ${value}`;
const named = (value: Json) => value == null ? null : `name ${value}`;

/** What a content part is by its own shape; undefined for what is the text of whoever speaks. */
function pieceOf(part: Json, calls: boolean): Piece | undefined | null {
  const type: string = part.type ?? "";
  if (["text", "input_text", "output_text"].includes(type) || (!type && "text" in part)) {
    if (!/\S/.test(part.text)) return null;
    return part.thought ? thoughtOf(part) : undefined;
  }
  if (["thinking", "redacted_thinking", "reasoning"].includes(type) || part.reasoningContent) return thoughtOf(part);
  if (type === "step-start") return null;
  if (type === "tool_result") return { kind: "result", key: id(part.tool_use_id) };
  if (type === "tool-result") return { kind: "result", key: id(part.toolCallId) };
  if (part.functionResponse) {
    return { kind: "result", key: id(part.functionResponse.id) ?? named(part.functionResponse.name) };
  }
  if (!calls) return;
  if (type === "tool_use") return { kind: "call", key: id(part.id) };
  if (type === "tool-call") return { kind: "call", key: id(part.toolCallId) };
  if (type === "tool-f") {
    return part.state.startsWith("output") ? undefined : { kind: "call", key: id(part.toolCallId) };
  }
  if (part.functionCall) return { kind: "call", key: id(part.functionCall.id) ?? named(part.functionCall.name) };
}

const ITEM_CALLS = ["function_call", "custom_tool_call", "computer_call", "program"];
const ITEM_RESULTS = [...ITEM_CALLS.slice(0, 3).map((type) => `${type}_output`), "program_output"];

/** The pieces of a message, or of what a context shows of it, in their order. */
export function piecesOf(row: Row): Piece[] {
  const { type = "message", item, role } = row;
  if (type === "compaction") return [{ kind: "compaction", type: "compaction" }];
  if (item != null) {
    if (ITEM_CALLS.includes(type)) return [{ kind: "call", key: id(item.call_id) }];
    if (ITEM_RESULTS.includes(type)) return [{ kind: "result", key: id(item.call_id) }];
    if (type === "mcp_approval_request") return [{ kind: "call", key: `approval ${item.id}` }];
    if (type === "mcp_approval_response") return [{ kind: "result", key: `approval ${item.approval_request_id}` }];
    if (type === "reasoning") return [{ kind: "reasoning", type: "reasoning" }];
    return [{ kind: "model" }];
  }
  if (type === "reasoning") return [{ kind: "reasoning", type: "reasoning_text" }];
  if (role === "function") return [{ kind: "result", key: named(row.name) }];
  if (role === "tool" && (row.tool_call_id != null || !row.parts)) {
    return [{ kind: "result", key: id(row.tool_call_id) }];
  }
  const own: Piece = role === "tool"
    ? { kind: "result", key: null }
    : { kind: role === "user" ? "user" : role === "assistant" ? "model" : "system" };
  const calls = role === "assistant";
  const pieces = [
    ...(/\S/.test(row.content ?? "") ? [own] : []),
    ...(row.parts ?? []).map((part) => pieceOf(part, calls)).filter((piece) => piece !== null).map((p) => p ?? own),
    ...(calls && row.function_call ? [{ kind: "call", key: named(row.function_call.name) } as const] : []),
    ...(calls ? row.tool_calls ?? [] : []).map((call: Json) => ({ kind: "call", key: id(call.id) }) as const),
  ];
  return pieces.length > 0 ? pieces : [{ kind: "empty" }];
}

/** A piece in a history. */
interface Placed extends Piece {
  row: Row;
  /** Its place in the message. */
  at: number;
  /** The call that a result answers. */
  call?: Placed;
  answered?: boolean;
}

const isModels = ({ kind, row, call }: Placed) =>
  ["model", "reasoning", "call"].includes(kind) || (kind === "result" && call?.row === row);

interface Group {
  pieces: Placed[];
  results: Placed[];
}

/** What can be sent of a history: groups that are in a context whole or not at all, in their order. */
function groupsOf(history: Row[], format: Format): Group[] {
  // Pairs, by walking forwards and remembering the latest message that makes each call.
  const all = history.flatMap((row) => piecesOf(row).map((piece, at): Placed => ({ ...piece, row, at })));
  const pieces = all.filter((piece) => !isOut(piece, format));
  const latest = new Map<string, { row: Row; calls: Placed[]; got: number }>();
  for (const piece of pieces) {
    if (piece.key == null) continue;
    const open = latest.get(piece.key);
    if (piece.kind === "call") {
      if (open?.row === piece.row) open.calls.push(piece);
      else latest.set(piece.key, { row: piece.row, calls: [piece], got: 0 });
    } else if (open && piece.row.sequence_order - open.row.sequence_order <= 256) {
      // An id is one call, however often its message says it.
      const asked = piece.key.startsWith("name ")
        ? open.calls.slice(open.got, open.got + 1)
        : open.got
        ? []
        : open.calls;
      open.got++;
      piece.call = asked[0];
      for (const call of asked) call.answered = true;
    }
  }
  const said = pieces.filter(({ kind }) => kind !== "empty");
  const stays = said.map((piece, i) => {
    if (piece.kind === "call") return !!piece.answered;
    if (piece.kind === "result") return !!piece.call;
    if (piece.kind !== "reasoning") return true;
    // What the model did upon it: up to the next reasoning, or what is not the model's.
    let acted = false;
    for (const next of said.slice(i + 1)) {
      if (!isModels(next) || (next.kind === "reasoning" && acted)) break;
      if (next.kind === "model" || (next.kind === "call" && next.answered)) return true;
      if (next.kind !== "reasoning") acted = true;
    }
    return false;
  });

  const groups: Group[] = [];
  const groupOf = new Map<Placed, Group>();
  const kept = (row: Row) => said.filter((other, i) => stays[i] && other.row === row);
  let last: Placed | undefined;
  let reasoned = false;
  for (const [i, piece] of said.entries()) {
    if (!isModels(piece)) reasoned = false;
    else if (piece.kind === "reasoning") reasoned = stays[i];
    if (!stays[i]) continue;
    let group: Group | undefined;
    if (piece.kind === "result" && piece.call!.row !== piece.row) {
      groupOf.get(piece.call!)!.results.push(piece);
      last = undefined;
      continue;
    } else if (!isModels(piece)) {
      group = groups.find(({ pieces: [first] }) => first.row === piece.row && first.kind === piece.kind);
      last = undefined;
    } else {
      const goesOn = last &&
        (last.row === piece.row ||
          (kept(last.row).some(({ kind }) => kind === "call")
            ? kept(piece.row).every(({ kind }) => kind === "call")
            : reasoned && (piece.kind !== "reasoning" || last.kind === "reasoning")));
      if (goesOn) group = groupOf.get(last!);
      last = piece;
    }
    if (!group) groups.push(group = { pieces: [], results: [] });
    group.pieces.push(piece);
    groupOf.set(piece, group);
  }
  return groups;
}

const slicesOf = (groups: Group[]): Placed[][] => {
  const slices: Placed[][] = [];
  for (const piece of groups.flatMap(({ pieces, results }) => [...pieces, ...results])) {
    const last = slices.at(-1)?.at(-1);
    if (last && last.row === piece.row && last.at < piece.at) slices.at(-1)!.push(piece);
    else slices.push([piece]);
  }
  return slices;
};

export interface Expected {
  /** The sequence numbers and how many pieces of each are shown, or null where the least does not fit. */
  shown: [sequence_order: number, pieces: number][] | null;
  truncated: boolean;
  total: number;
  /** What every place costs where the context could begin, summary and what always comes first included. */
  costs: number[];
}

/** The answer for a whole history. */
export function expectContext(
  rows: Row[],
  summary: string | null,
  maxTokens: number,
  { maxMessages = Infinity, begin = "any", format = "message" }: {
    maxMessages?: number;
    begin?: "any" | "user";
    format?: Format;
  } = {},
): Expected {
  if (format === "anthropic" || format === "gemini") begin = "user";
  const firstOther = rows.findIndex((row) =>
    (row.type ?? "message") !== "message" || !["system", "developer"].includes(row.role!)
  );
  const leading = rows.slice(0, Math.min(64, firstOther < 0 ? rows.length : firstOther));
  const compaction = compacts(format) ? rows.findLastIndex((row) => row.type === "compaction") : -1;
  const head = [...leading, ...(compaction < 0 ? [] : [rows[compaction]])];
  let headTokens = head.reduce((sum, row) => sum + tokens(row), 0);
  let headMessages = head.length;
  if (summary) {
    headTokens += tokens({ sequence_order: 0, content: summary, name: "conversation_summary" });
    headMessages++;
  }

  const groups = groupsOf(rows.slice(Math.max(leading.length, compaction + 1)), format);
  const cost = (some: Group[]) =>
    [...new Set(slicesOf(some).map(([{ row }]) => row))].reduce((sum, row) => sum + tokens(row), headTokens);
  const fits = (some: Group[]) => cost(some) <= maxTokens && headMessages + slicesOf(some).length <= maxMessages;
  const isUser = ({ pieces: [{ kind }] }: Group) => kind === "user";

  const places = groups.map((_, i) => i);
  const user = groups.findLastIndex(isUser);
  const turn = user < 0 ? [] : [groups[user]];
  const costs = places.map((i) => cost(groups.slice(i)));
  const answer = (some: Group[]): Expected => ({
    shown: [
      ...head.map((row): [number, number] => [row.sequence_order, piecesOf(row).length]),
      ...slicesOf(some).map((slice): [number, number] => [slice[0].row.sequence_order, slice.length]),
    ],
    truncated: groups.some((group) => !some.includes(group)),
    total: cost(some),
    costs,
  });
  const least = groups.length === 0 || (user < 0 && begin === "user")
    ? []
    : user < 0
    ? groups.slice(-1)
    : [...new Set([...turn, groups.at(-1)!])];
  if (!fits(least)) return { shown: null, truncated: false, total: cost(least), costs };
  if (least.length === 0) return answer([]);

  const whole = places.find((i) =>
    fits(groups.slice(i)) && (isUser(groups[i]) || (begin === "any" && (user < 0 || i === 0)))
  );
  if (whole !== undefined) return answer(groups.slice(whole));
  const tail = places.find((i) => i > user && fits([...turn, ...groups.slice(i)]))!;
  return answer([...turn, ...groups.slice(tail)]);
}

// ---- random histories -----------------------------------------------------------------------------------------------

/** mulberry32: the same numbers for the same seed. */
export function random(seed: number): () => number {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

const WORDS = [
  "",
  "yes",
  "What is the weather?",
  "天気はどうですか",
  "Zażółć gęślą jaźń",
  "🧵👩‍👩‍👧‍👦",
  'a "quoted"\n\tline\\',
];
const BLOB = "iVBORw0KGgo".repeat(40);

const MEDIA: Json[] = [
  { type: "image_url", image_url: { url: "https://example.com/a.png" } },
  { type: "input_image", file_id: "file-1" },
  { type: "image", source: { type: "base64", media_type: "image/bmp", data: BLOB } },
  { type: "image", source: { type: "url", url: "https://example.com/a.png" } },
  { inlineData: { mimeType: "image/png", data: BLOB } },
  { fileData: { fileUri: "gs://bucket/a.mp4", mimeType: "video/mp4" } },
  { type: "file", mediaType: "application/pdf", url: `data:application/pdf;base64,${BLOB}`, filename: "a.pdf" },
  { type: "file", mediaType: "image/png", url: "a.png" },
  { type: "file", file: { file_id: "file-1" } },
  { type: "input_audio", input_audio: { data: BLOB, format: "wav" } },
  { type: "document", source: { type: "text", media_type: "text/plain", data: "plain" }, title: "a" },
  { type: "refusal", refusal: "No." },
  { type: "search_result", title: "a", source: "b", content: [] },
  { executableCode: { language: "PYTHON", code: "1" } },
  { type: "picture_of_tomorrow", value: { a: 1 } },
];

/** What somebody may have said and done: turns of every kind, some of them broken. */
export function randomRows(rand: () => number, first: number, length: number): Row[] {
  const int = (n: number) => Math.floor(rand() * n);
  const maybe = (p: number) => rand() < p;
  const pick = <T>(values: T[]): T => values[int(values.length)];
  const text = () => pick(WORDS).repeat(1 + int(4));
  const rows: Omit<Row, "sequence_order">[] = [];
  // Results that come later than they should: how many messages from now.
  const late: { after: number; row: Omit<Row, "sequence_order"> }[] = [];
  const push = (row: Omit<Row, "sequence_order">) => {
    rows.push({
      ...row,
      ...(maybe(0.4) && { token_count: maybe(0.1) ? 0 : int(60) }),
      ...(maybe(0.2) && { source: { dialect: pick(FORMATS.slice(1)), rest: maybe(0.5) ? {} : { refusal: null } } }),
      ...(maybe(0.2) && { model: "m" }),
      ...(maybe(0.1) && { status: "incomplete" }),
    });
    for (const one of late.filter(({ after }) => after <= rows.length)) {
      late.splice(late.indexOf(one), 1);
      rows.push(one.row);
    }
  };
  const results = (all: Omit<Row, "sequence_order">[]) => {
    for (const row of all.sort(() => rand() - 0.5)) {
      if (maybe(0.08)) continue; // not there yet, or deleted
      if (maybe(0.02)) {
        late.push({ after: rows.length + (maybe(0.5) ? int(20) : 200 + int(120)), row });
        continue;
      }
      if (maybe(0.08)) push({ role: pick(["user", "system", "assistant"]), content: text() });
      push(row);
      if (maybe(0.05)) push(row); // a retry that was stored twice
    }
  };
  const signature = () => pick([BLOB, "", undefined]);
  const providers = () =>
    pick([{ anthropic: { signature: BLOB } }, { google: { thoughtSignature: BLOB } }, { openai: {} }]);
  /** What a model thought, of every kind. */
  const thoughts = (): Json[] =>
    Array.from({ length: 1 + int(3) }, () =>
      pick<() => Json>([
        () => ({ type: "thinking", thinking: "hm", signature: signature() }),
        () => ({ type: "redacted_thinking", data: pick([BLOB, undefined]) }),
        () => ({ type: "reasoning", text: "hm", providerMetadata: maybe(0.7) ? providers() : undefined }),
        () => ({ type: "reasoning", text: "", providerOptions: { anthropic: { redactedData: signature() } } }),
        () => ({ type: "reasoning", reasoning: "hm" }),
        () => ({ text: "hm", thought: true, thoughtSignature: signature() }),
        () => ({ reasoningContent: { reasoningText: { text: "hm", signature: BLOB } } }),
      ])());
  // Ids come again now and then.
  const id = () => maybe(0.3) ? `call_${int(3)}` : `call_${int(1e9)}`;
  const kinds: (() => void)[] = [
    () => push({ role: "user", content: text() }),
    () => push({ role: "user", content: text() }),
    () => push({ role: "assistant", content: text() }),
    () =>
      push({
        role: "user",
        content: null,
        parts: [{ type: "text", text: text() }, {
          type: "image_url",
          image_url: {
            url: pick(["https://example.com/a.png", `data:image/png;base64,${BLOB}`]),
            ...(maybe(0.3) && { detail: "low" }),
          },
        }],
      }),
    () => push({ role: pick(["system", "developer"]), content: text(), name: "ops" }),
    () => {
      const ids: (string | undefined)[] = Array.from({ length: 1 + int(3) }, () => maybe(0.02) ? undefined : id());
      push({
        role: "assistant",
        content: pick([null, "Let me see."]),
        tool_calls: ids.map((id) => ({ id, type: "function", function: { name: "f", arguments: '{"a": "天"}' } })),
      });
      results(ids.map((tool_call_id) => ({ role: "tool", tool_call_id, content: text() })));
    },
    () => {
      const name = pick(["f", "g"]);
      push({ role: "assistant", content: null, function_call: { name, arguments: "{}" } });
      results([{ role: "function", name, content: text() }]);
    },
    () => {
      if (maybe(0.5)) push({ type: "reasoning", item: { type: "reasoning", summary: [], encrypted_content: BLOB } });
      if (maybe(0.1)) push({ type: "reasoning", item: { type: "reasoning", summary: [] } });
      const type = pick(["function_call", "custom_tool_call", "program"]);
      const ids = Array.from({ length: 1 + int(2) }, id);
      for (const call_id of ids) push({ type, item: { type, call_id, name: "f", arguments: "{}" } });
      results(ids.map((call_id) => ({
        type: `${type}_output`,
        item: { type: `${type}_output`, call_id, output: text() || "." },
      })));
    },
    () => {
      push({ type: "web_search_call", item: { type: "web_search_call", id: "ws_1", status: "completed" } });
      if (maybe(0.3)) push({ type: "reasoning", item: { type: "reasoning", summary: [] } });
      push({ role: "assistant", content: text(), tool_calls: maybe(0.1) ? [] : undefined });
    },
    () => {
      const id = `mcpr_${int(4)}`;
      push({ type: "mcp_approval_request", item: { type: "mcp_approval_request", id, name: "f", arguments: "{}" } });
      const type = "mcp_approval_response";
      results([{ type, item: { type, approval_request_id: id, approve: true } }]);
    },
    // The same in content parts: Anthropic, Gemini and the AI SDK; results of one message, with words beside them.
    () => {
      const thinking = maybe(0.3) ? thoughts() : [];
      const ids = Array.from({ length: 1 + int(3) }, id);
      const words = () => maybe(0.4) ? [{ type: "text", text: text() }] : [];
      push({
        role: "assistant",
        parts: [...thinking, ...words(), ...ids.map((id) => ({ type: "tool_use", id, name: "f", input: {} }))],
        // LangChain says a call in both places.
        ...(maybe(0.2) && { tool_calls: ids.map((id) => ({ id, type: "function", function: { name: "f" } })) }),
      });
      if (maybe(0.1)) push({ role: "user", content: text() });
      const found = ids.filter(() => !maybe(0.1)).map((id) => ({
        type: "tool_result",
        tool_use_id: id,
        content: "42",
      }));
      push({ role: "user", parts: [...found, ...words()] });
    },
    () => {
      const calls = Array.from(
        { length: 1 + int(3) },
        () => ({ name: pick(["f", "g"]), ...(maybe(0.5) && { id: id() }) }),
      );
      const thought = maybe(0.3) ? [{ text: "hm", thought: true }] : [];
      push({
        role: "assistant",
        parts: [...thought, ...calls.map((call) => ({ functionCall: { ...call, args: {} } }))],
      });
      const found = calls.filter(() => !maybe(0.1)).map((call) => ({ functionResponse: { ...call, response: {} } }));
      push({ role: "user", parts: maybe(0.2) ? [{ text: text() }, ...found] : found });
    },
    () => {
      const toolCallId = id();
      push({
        role: "assistant",
        parts: [...thoughts(), { type: "tool-call", toolCallId, toolName: "f", input: {} }],
      });
      results([{
        role: "tool",
        parts: [{ type: "tool-result", toolCallId, toolName: "f", output: { type: "text", value: "" } }],
      }]);
    },
    () =>
      push({
        role: "assistant",
        parts: [
          { type: "step-start" },
          {
            type: "tool-f",
            toolCallId: id(),
            state: pick(["output-available", "output-error", "input-available"]),
            input: {},
          },
          ...(maybe(0.5) ? [{ type: "step-start" }, { type: "text", text: text() }] : []),
        ],
      }),
    () => {
      if (maybe(0.3)) push({ type: "compaction", item: { type: "compaction", id: "cmp_1", encrypted_content: BLOB } });
      if (maybe(0.3)) push({ role: "assistant", content: "" });
    },
    () => {
      if (maybe(0.4)) push({ type: "reasoning", content: "hm" });
      push({
        role: "assistant",
        parts: maybe(0.3) ? thoughts() : [...thoughts(), { type: "text", text: text() }, ...thoughts()],
      });
      if (maybe(0.5)) push({ role: "assistant", content: text() });
    },
    () => push(pick([{ role: "tool", tool_call_id: id(), content: "?" }, { role: "tool", content: "?" }])),
    // What providers differ in: media of every API, names and ids that one takes and another does not, tools that they host.
    () => {
      const words = maybe(0.5) ? [{ type: "text", text: text() || "." }] : [];
      push({
        role: pick(["user", "user", "assistant", "system"]),
        token_count: int(60),
        parts: [pick(MEDIA), ...words],
      });
    },
    () => {
      const calls = Array.from({ length: 1 + int(2) }, () => `${pick(["a:b/", "ü", "x".repeat(70)])}${int(1e6)}`);
      const [name, token_count] = [pick(["get weather/now", "天気", "f".repeat(200)]), int(60)];
      const shape = int(3);
      push(
        shape === 0
          ? { role: "assistant", token_count, parts: calls.map((id) => ({ type: "tool_use", id, name, input: [1] })) }
          : shape === 1
          ? {
            role: "assistant",
            token_count,
            tool_calls: calls.map((id) => ({ id, type: "custom", custom: { name, input: "select" } })),
          }
          : {
            role: "assistant",
            token_count,
            tool_calls: calls.map((id) => ({ id, function: { name, arguments: "{" } })),
          },
      );
      const seen = { type: "image", source: { type: "base64", media_type: "image/png", data: BLOB } };
      results(
        calls.map((id) =>
          maybe(0.5) ? { role: "tool", token_count, tool_call_id: id, content: text() } : {
            role: "user",
            token_count,
            parts: [{ type: "tool_result", tool_use_id: id, content: [seen], is_error: maybe(0.3) }],
          }
        ),
      );
    },
    () => {
      const item = pick<Json>([
        { type: "mcp_call", id: `mcp_${int(1e6)}`, server_label: "s", name: "f", arguments: "{}", output: "o" },
        { type: "image_generation_call", id: `ig_${int(1e6)}`, status: "completed", result: BLOB },
        { type: "file_search_call", id: `other_${int(1e6)}`, status: "completed", queries: ["q"] },
        { type: "thing_of_tomorrow", id: `t_${int(1e6)}`, value: 1 },
      ]);
      push({ type: item.type, token_count: int(60), item });
    },
    () => push({ type: "function_call_output", item: { type: "function_call_output", call_id: id(), output: "?" } }),
  ];
  // Some histories know one kind of call only, some no user, some are one long answer.
  const common = kinds.slice(maybe(0.1) ? 2 : 0);
  const pool = maybe(0.5) ? common : common.filter(() => maybe(0.5)).concat(kinds[2]);
  if (first === 1) { for (let i = int(4); i > 0; i--) kinds[4](); }
  if (maybe(0.15)) kinds[0]();
  while (rows.length < length) pick(pool)();
  return rows.map((row, i) => ({ sequence_order: first + i, ...row }));
}
