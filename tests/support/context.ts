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
  token_count?: number;
}

// ---- the rules ------------------------------------------------------------------------------------------------------

/** How Postgres prints jsonb, up to the order of keys, which changes no length. */
function jsonbText(value: Json): string {
  if (Array.isArray(value)) return `[${value.map(jsonbText).join(", ")}]`;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  return `{${Object.entries(value).map(([key, child]) => `${JSON.stringify(key)}: ${jsonbText(child)}`).join(", ")}}`;
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
  let blobs = 0;
  json = json.replace(/"([^"]{200,})"/g, (quoted, inner) => {
    if (!/^(data:[!-~]*|[\w+/=-]+)$/.test(inner)) return quoted;
    blobs++;
    return '""';
  });
  text += json;
  return 4 + Math.ceil((3 * new TextEncoder().encode(text).length - [...text].length) / 8) + 1000 * blobs;
}

/** The calls a message makes. A call that cannot be answered is one of its own. */
export function callsOf(row: Row): string[] {
  const { type = "message", item } = row;
  if (type === "function_call" || (type.endsWith("_call") && item?.call_id != null)) {
    return [item?.call_id != null ? `item:${item.call_id}` : "?"];
  }
  if (type === "mcp_approval_request") return [`item:${item.id}`];
  if (row.role !== "assistant") return [];
  return [
    ...(row.tool_calls ?? []).map((call) => call.id != null ? `tool:${call.id}` : "?"),
    ...(row.function_call ? [`function:${row.function_call.name}`] : []),
  ];
}

/** The call a message answers; null if it answers one that it does not name. */
export function answerOf(row: Row): string | null | undefined {
  const { type = "message", item } = row;
  if (type.endsWith("_call_output") || (type.endsWith("_output") && item?.call_id != null)) {
    return item?.call_id != null ? `item:${item.call_id}` : null;
  }
  if (type === "mcp_approval_response") return `item:${item.approval_request_id}`;
  if (row.role === "tool") return row.tool_call_id != null ? `tool:${row.tool_call_id}` : null;
  if (row.role === "function") return row.name != null ? `function:${row.name}` : null;
}

const isReasoning = (row: Row) => row.type === "reasoning";

export interface Expected {
  /** The sequence numbers, or null where the newest turn does not fit. */
  shown: number[] | null;
  truncated: boolean;
  total: number;
  /** What every place costs where the context could begin, summary and leading messages included. */
  costs: number[];
}

/** The answer for a whole history, in one pass over it. */
export function expectContext(
  rows: Row[],
  summary: string | null,
  maxTokens: number,
  maxMessages = Infinity,
): Expected {
  const firstOther = rows.findIndex((row) =>
    (row.type ?? "message") !== "message" || !["system", "developer"].includes(row.role!)
  );
  const leading = rows.slice(0, Math.min(64, firstOther < 0 ? rows.length : firstOther));
  const history = rows.slice(leading.length);
  let headTokens = leading.reduce((sum, row) => sum + tokens(row), 0);
  let headMessages = leading.length;
  if (summary) {
    headTokens += tokens({ sequence_order: 0, content: summary, name: "conversation_summary" });
    headMessages++;
  }

  // Pairs, by walking forwards and remembering the latest call of each key.
  interface Call {
    at: number;
    wanted: number;
    got: number;
  }
  const latest = new Map<string, Call>();
  const callsAt = new Map<number, Call[]>();
  const pairs: [call: number, result: number][] = [];
  history.forEach((row, i) => {
    const answer = answerOf(row);
    const call = answer == null ? undefined : latest.get(answer);
    if (call && call.got < call.wanted && row.sequence_order - history[call.at].sequence_order <= 256) {
      call.got++;
      pairs.push([call.at, i]);
    }
    const made = new Map<string, Call>();
    for (const key of callsOf(row)) {
      const mine = made.get(key) ?? { at: i, wanted: 0, got: 0 };
      mine.wanted++;
      made.set(key, mine);
      latest.set(key, mine);
    }
    callsAt.set(i, [...made.entries()].map(([key, mine]) => key === "?" ? { ...mine, wanted: Infinity } : mine));
  });
  const complete = (i: number) => callsAt.get(i)!.every((call) => call.got === call.wanted);
  const usable = history.map((row, i) =>
    answerOf(row) === undefined ? complete(i) : pairs.some(([call, result]) => result === i && complete(call))
  );
  const links = pairs.filter(([call]) => complete(call));
  for (let i = history.length - 1; i >= 0; i--) {
    if (!isReasoning(history[i])) continue;
    const next = history[i + 1];
    usable[i] = next !== undefined && usable[i + 1] && answerOf(next) === undefined &&
      (next.role == null || next.role === "assistant");
    if (usable[i]) links.push([i, i + 1]);
  }

  const starts = history.map((_, i) => i)
    .filter((i) => usable[i] && !links.some(([from, to]) => from < i && i <= to));
  const from = (i: number) => history.slice(i).filter((_, j) => usable[i + j]);
  const cost = (i: number) => from(i).reduce((sum, row) => sum + tokens(row), headTokens);
  const fits = (i: number) => cost(i) <= maxTokens && headMessages + from(i).length <= maxMessages;

  const user = history.findLastIndex((row) =>
    row.role === "user" && row.sequence_order > history.at(-1)!.sequence_order - 1000
  );
  const turn = starts.findLast((i) => user < 0 || i <= user);
  const costs = starts.map(cost);
  if (turn === undefined) {
    const shown = headTokens <= maxTokens && headMessages <= maxMessages
      ? leading.map((row) => row.sequence_order)
      : null;
    return { shown, truncated: false, total: headTokens, costs };
  }
  if (!fits(turn)) return { shown: null, truncated: false, total: cost(turn), costs };
  const cut = starts.find(fits)!;
  return {
    shown: [...leading, ...from(cut)].map((row) => row.sequence_order),
    truncated: usable.some((yes, i) => yes && i < cut),
    total: cost(cut),
    costs,
  };
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
    rows.push({ ...row, ...(maybe(0.4) && { token_count: maybe(0.1) ? 0 : int(60) }) });
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
          image_url: { url: pick(["https://example.com/a.png", `data:image/png;base64,${BLOB}`]) },
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
      const type = pick(["function_call", "custom_tool_call"]);
      const ids = Array.from({ length: 1 + int(2) }, id);
      for (const call_id of ids) push({ type, item: { type, call_id, name: "f", arguments: "{}" } });
      results(ids.map((call_id) => ({
        type: `${type}_output`,
        item: { type: `${type}_output`, call_id, output: text() },
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
    () => push(pick([{ role: "tool", tool_call_id: id(), content: "?" }, { role: "tool", content: "?" }])),
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
