// The parsers of import files: NDJSON, ChatGPT's tree, and what cuts files of any size.
import { assert, assertEquals, assertMatch, assertRejects, assertThrows } from "@std/assert";
import { decode, lineType, readBytes, readElements, readLines, Splitter } from "../../local/split.ts";
import { readChatGpt, toTimestamp } from "../../supabase/functions/conversations/chatgpt.ts";
import {
  type ImportReport,
  MAX_CONVERSATIONS,
  MAX_LINES,
  readConversations,
  readNdjson,
} from "../../supabase/functions/conversations/transfer.ts";

const conversation = (id: string, more = {}) => JSON.stringify({ type: "conversation", id, ...more });
const message = (content: string, more = {}) => JSON.stringify({ type: "message", role: "user", content, ...more });
const read = (...lines: string[]) => readNdjson(new TextEncoder().encode(lines.join("\n")));

/** What became of each conversation: how many messages, or the line and code of its error. */
const outcomes = (...lines: string[]) =>
  read(...lines).records.map((
    { id, messages, error },
  ) => [id, error ? `${error.line} ${error.code}` : messages.length]);

Deno.test("lines become conversations with numbered messages", () => {
  const { records, ids, more } = read(
    JSON.stringify({ type: "ids", map: { p: "a11ce000-0000-4000-8000-000000000001" }, more: true }),
    conversation("a", { title: "A" }),
    message("1"),
    "",
    message("5", { sequence_order: 5, message_type: "note", metadata: JSON.parse('{"__proto__":1,"":2}') }),
    message("6"),
    conversation("b", { parent_id: "a", fork_sequence: 5 }),
    message("b6"),
    JSON.stringify({ type: "end", conversations: 2, tombstones: 0, messages: 4 }),
  );
  assertEquals([...ids], [["p", "a11ce000-0000-4000-8000-000000000001"]]);
  assertEquals(more, true);
  assertEquals(records.map(({ line, id, error }) => [line, id, error]), [[2, "a", undefined], [7, "b", undefined]]);
  assertEquals(records[0].messages.map((m) => [m.sequence_order, m.type]), [[1, undefined], [5, "note"], [
    6,
    undefined,
  ]]);
  assertEquals(JSON.stringify(records[0].messages[1].metadata), '{"__proto__":1,"":2}');
  assertEquals(records[1].messages[0].sequence_order, 6);
});

Deno.test("a broken line fails its conversation, by number, and no other", () => {
  const good = [conversation("z"), message("z")];
  for (
    const [broken, code] of [
      ['{"type":"message","role":"user","content":"x"', "invalid_json"],
      ["garbage", "invalid_json"],
      ["[]", "invalid_request"],
      ['{"type":"mystery"}', "invalid_request"],
      [message("x", { colour: "red" }), "invalid_request"],
      [message("x", { role: "narrator" }), "invalid_request"],
      [message("x", { content: 5 }), "invalid_request"],
      [message("x", { content: null }), "invalid_request"],
      [message("x", { sequence_order: 1 }), "invalid_request"],
      [message("x", { sequence_order: 0 }), "invalid_request"],
      [message("x", { created_at: "yesterday" }), "invalid_request"],
      [message("x", { item_id: "x\0" }), "invalid_request"],
      [message("x", { author: "root" }), "invalid_request"],
      [message("x", { conversation_id: "elsewhere" }), "invalid_request"],
    ]
  ) {
    assertEquals(
      outcomes(...good, conversation("a"), message("1"), broken, message("3"), conversation("b"), message("1")),
      [["z", 1], ["a", `5 ${code}`], ["b", 1]],
      broken,
    );
  }
});

Deno.test("a broken line that began a conversation takes its messages with it, not the one before", () => {
  const own = (id: string) => message("x", { conversation_id: id });
  for (const broken of ['{"type": "conversation", "id": "b", "title', conversation("b", { colour: 1 }), "garbage"]) {
    const result = outcomes(conversation("a"), own("a"), broken, own("b"), own("b"), conversation("c"), own("c"));
    assertEquals(result.map(([, outcome]) => String(outcome).split(" ")[0]), ["1", "3", "1"], broken);
  }
});

Deno.test("misplaced lines are told", () => {
  assertEquals(outcomes(message("x"), conversation("a")), [[null, "1 invalid_request"], ["a", 0]]);
  assertEquals(outcomes(conversation("a"), conversation("a")), [["a", 0], ["a", "2 invalid_request"]]);
  assertEquals(outcomes(conversation("a", { parent_id: "p" })), [["a", "1 invalid_request"]]);
  assertEquals(outcomes(conversation("a", { deleted: true, title: "t" })), [["a", "1 invalid_request"]]);
  assertEquals(outcomes(conversation("a", { last_sequence_order: 1 }), message("1"), message("2")), [
    ["a", "3 invalid_request"],
  ]);
  const end = (messages: number) => JSON.stringify({ type: "end", messages });
  assertEquals(outcomes(conversation("a"), message("1"), end(1)), [["a", 1]]);
  assertEquals(outcomes(conversation("a"), message("1"), end(2)), [["a", 1], [null, "3 invalid_request"]]);
  const failed = JSON.stringify({ type: "error", error: { code: "internal_error" } });
  assertEquals(outcomes(conversation("a"), conversation("b"), message("1"), failed), [["a", 0], [
    "b",
    "4 invalid_request",
  ]]);
});

Deno.test("bytes that are not UTF-8 break their line only", () => {
  const text = new TextEncoder().encode(`${conversation("a")}\n${message("?")}\n${conversation("b")}\n`);
  text[text.indexOf(0x3f)] = 0xff;
  assertEquals(readNdjson(text).records.map(({ id, error }) => [id, error?.line]), [["a", 2], ["b", undefined]]);
});

Deno.test("nothing is read behind one conversation too many", () => {
  const parseJson = JSON.parse;
  let parsed = 0;
  JSON.parse = (...args) => {
    parsed++;
    return parseJson(...args);
  };
  try {
    for (const line of [conversation("a"), '{"type":"conversation","id":"cut']) {
      const bytes = new TextEncoder().encode(`${line}\n`.repeat(60_000));
      parsed = 0;
      assertThrows(() => readNdjson(bytes), Error, "not valid");
      assertEquals(parsed, MAX_CONVERSATIONS + 1);
    }
  } finally {
    JSON.parse = parseJson;
  }
});

Deno.test("a request has as many lines as it may, blank ones too, and as many values, and no more is read", () => {
  const file = (...lines: string[]) => new TextEncoder().encode(`${lines.join("\n")}\n`);
  const blanks = Array(MAX_LINES - 1).fill("");
  assertEquals(readNdjson(file(conversation("a"), ...blanks)).records.length, 1);
  assertThrows(() => readNdjson(file(conversation("a"), ...blanks, "")), Error, "not valid");
  const large = message("x", { parts: Array(90_000).fill(0) });
  assertEquals(readNdjson(file(conversation("a"), large, large)).records[0].messages.length, 2);
  assertThrows(() => readNdjson(file(conversation("a"), large, large, large)), Error, "not valid");
  // One line of more than a body may have is that line's error.
  assertEquals(outcomes(conversation("a"), message("x", { parts: Array(120_000).fill(0) }), conversation("b")), [
    ["a", "2 invalid_request"],
    ["b", 0],
  ]);
});

Deno.test("pieces of an export read as one file, and one that the last piece is missing from is told", () => {
  const next = JSON.stringify({ type: "next", cursor: "abc" });
  const end = JSON.stringify({ type: "end", conversations: 2, messages: 2 });
  const pieces = [conversation("a"), message("1"), next, message("2"), next, conversation("b")];
  assertEquals(outcomes(...pieces, end), [["a", 2], ["b", 0]]);
  assertEquals(outcomes(...pieces, next), [["a", 2], ["b", 0], [null, "7 invalid_request"]]);
  assertEquals(outcomes(...pieces, next, "", " "), [["a", 2], ["b", 0], [null, "7 invalid_request"]]);
});

Deno.test("what is said of the file as a whole is no conversation too many", () => {
  const all = Array.from({ length: MAX_CONVERSATIONS }, (_, i) => conversation(`c${i}`));
  const end = JSON.stringify({ type: "end", conversations: 7 });
  const { records } = read(...all, end, end, end);
  assertEquals(records.filter(({ error }) => !error).length, MAX_CONVERSATIONS);
  assertEquals(records.slice(MAX_CONVERSATIONS).map(({ line, id, error }) => [line, id, error?.code]), [
    [MAX_CONVERSATIONS + 1, null, "invalid_request"],
  ]);
});

// ---- ChatGPT --------------------------------------------------------------------------------------------------------

const node = (parent: string | null, children: string[], role?: string, content?: unknown, more = {}) => ({
  parent,
  children,
  message: role === undefined ? null : { author: { role }, content, create_time: 1_700_000_000, ...more },
});
const text = (...parts: string[]) => ({ content_type: "text", parts });

Deno.test("a ChatGPT tree becomes a conversation and forks, of forks where they branch", () => {
  // root ─ q ─ a ─ q2 ─ a2          (current)
  //        │    └─ e2 ─ b2          an edited question
  //        │          └─ c2 ─ c3    … answered twice, the newer of them here
  //        └─ r                     a regenerated first answer
  const records = readChatGpt({
    title: "T",
    conversation_id: "c",
    create_time: 1_700_000_000.25,
    update_time: 1_700_000_900,
    current_node: "a2",
    mapping: {
      root: node(null, ["sys"]),
      sys: node("root", ["q"], "system", text("")),
      q: node("sys", ["a", "r"], "user", text("q")),
      a: node("q", ["q2", "e2"], "assistant", text("a"), { metadata: { model_slug: "gpt-4" } }),
      r: node("q", [], "assistant", text("r"), { create_time: 1_700_000_500.123456 }),
      q2: node("a", ["a2"], "user", text("q2")),
      a2: node("q2", [], "assistant", text("a2")),
      e2: node("a", ["b2", "c2"], "user", text("e2")),
      b2: node("e2", [], "assistant", text("b2")),
      c2: node("e2", ["c3"], "assistant", text("c2")),
      c3: node("c2", [], "user", text("c3")),
    },
  }, 1);
  const show = ({ id, conversation, messages }: typeof records[number]) => [
    id,
    conversation.parent_id,
    conversation.fork_sequence,
    messages.map((m) => `${m.sequence_order}${m.item_id}`).join(" "),
  ];
  assertEquals(records.map(show), [
    ["c", undefined, undefined, "1q 2a 3q2 4a2"],
    ["c#1", "c", 1, "2r"],
    ["c#2", "c", 2, "3e2 4c2 5c3"],
    ["c#3", "c#2", 3, "4b2"],
  ]);
  assertEquals(records[0].messages[1].model, "gpt-4");
  assertEquals(records[0].conversation.created_at, "2023-11-14T22:13:20.250000+00:00");
  assertEquals(records[0].conversation.updated_at, "2023-11-14T22:28:20.000000+00:00");
  assertEquals(records[1].messages[0].created_at, "2023-11-14T22:21:40.123456+00:00");
  assertEquals(records[1].conversation.created_at, "2023-11-14T22:21:40.123456+00:00");
  assertEquals(records[0].notes, ["3 branches became forks.", "Left out 1 hidden or empty messages."]);
});

Deno.test("branches at the root, empty branches and cycles", () => {
  const tree = (mapping: unknown, current_node?: string) =>
    readChatGpt({ id: "c", current_node, mapping }, 1)
      .map(({ conversation, messages }) => [conversation.parent_id, messages.map((m) => m.content).join()]);
  // An edited first question shares nothing: a conversation of its own.
  assertEquals(
    tree({ r: node(null, ["x", "y"]), x: node("r", [], "user", text("x")), y: node("r", [], "user", text("y")) }, "x"),
    [[undefined, "x"], [undefined, "y"]],
  );
  // A branch without messages is none, and what branches from it shares what it would have shared.
  assertEquals(
    tree({
      r: node(null, ["x"], "user", text("r")),
      x: node("r", ["m", "e"], "user", text("x")),
      m: node("x", [], "assistant", text("m")),
      e: node("x", ["f", "g"], "assistant", text("")),
      f: node("e", [], "user", text("f")),
      g: node("e", [], "assistant", text("")),
    }, "m"),
    [[undefined, "r,x,m"], ["c", "f"]],
  );
  // A loop ends; a missing current_node is the newest leaf; unknown children are nothing.
  assertEquals(tree({ a: node("b", ["b"], "user", text("a")), b: node("a", ["a"], "user", text("b")) }, "b"), [
    [undefined, "a,b"],
  ]);
  assertEquals(tree({ a: node(null, ["b", "gone"], "user", text("a")), b: node("a", [], "user", text("b")) }), [
    [undefined, "a,b"],
  ]);
  assertEquals(tree({}), [[undefined, ""]]);
});

Deno.test("large trees: ways that run together, long chains, and loops of all kinds", () => {
  const size = 30_000;
  const said = (parent: string | null, children: string[]) => node(parent, children, "user", text("x"));
  const chain = (prefix: string, end: string[] = []) =>
    Array.from({ length: size }, (_, i) => {
      const next = i + 1 < size ? [`${prefix}${i + 1}`] : end;
      return [`${prefix}${i}`, said(i > 0 ? `${prefix}${i - 1}` : null, next)] as const;
    });
  const count = (mapping: unknown, current_node?: string) =>
    readChatGpt({ id: "c", mapping, current_node }, 1).map(({ messages }) => messages.length);

  // Each of the children leads to the same chain: the first that is followed has it, the others end before it.
  const heads = Array.from({ length: size }, (_, i) => [`h${i}`, said("r", ["s0"])] as const);
  const shared = { r: said(null, heads.map(([id]) => id)), ...Object.fromEntries([...heads, ...chain("s")]) };
  assertEquals(count(shared, "h0"), [2, size + 1, ...Array.from({ length: size - 2 }, () => 1)]);

  assertEquals(count(Object.fromEntries(chain("a")), `a${size - 1}`), [size]);
  assertEquals(count(Object.fromEntries(chain("a"))), [size]);
  assertEquals(count(Object.fromEntries(chain("a", ["a0", "a7", "a7"])), "a0"), [1, size - 1]);
  assertEquals(count({ a: said("a", ["a", "a"]), b: said("constructor", ["a", "toString"]) }), [2]);
  assertEquals(count({ a: node(null, ["b"]), b: { parent: "gone", children: [] }, c: said("d", []) }), [1]);
});

Deno.test("what one conversation of the array has too much of is its error, what nobody can store costs the message", () => {
  const chat = (id: string, branches: number, content: unknown = text("x"), message: object = {}) => {
    const leaves = Array.from({ length: branches + 1 }, (_, i) => `n${i}`);
    const nodes = leaves.map((leaf) => [leaf, node("r", [], "assistant", text("y"))]);
    return {
      id,
      current_node: "n0",
      mapping: { r: withMessage(node(null, leaves, "user", content), message), ...Object.fromEntries(nodes) },
    };
  };
  const withMessage = (node: { message: object | null }, message: object) => ({
    ...node,
    message: { ...node.message, ...message },
  });
  const result = readConversations([
    chat("a", 1),
    chat("wide", MAX_CONVERSATIONS),
    chat("nul", 0, text("x"), { id: "\0" }),
    chat("half", 0, text("x"), { author: { role: "user", name: "\ud800" } }),
    chat("big", 0, { content_type: "x", n: 2 ** 60 }),
    chat("b", 0),
  ]);
  assertEquals(result.map(({ id, line, messages, error }) => [id, line, error ? error.code : messages.length]), [
    ["a", 1, 2],
    ["a#1", 1, 1],
    ["wide", 2, "invalid_request"],
    ["nul", 3, 1],
    ["half", 4, 1],
    ["big", 5, 1],
    ["b", 6, 2],
  ]);
  assertMatch(JSON.stringify(result[2].error), /100 branches.*at most 100/);
  for (const n of [3, 4, 5]) assertEquals(result[n].left_out, { unstorable: 1 });

  assertEquals(readConversations([chat("a", MAX_CONVERSATIONS - 2), chat("b", 0)]).length, MAX_CONVERSATIONS);
  assertThrows(() => readConversations([chat("a", MAX_CONVERSATIONS - 1), chat("b", 0)]), Error, "not valid");
});

Deno.test("content of every kind is kept", () => {
  const one = (content: unknown, more = {}) =>
    readChatGpt({ id: "c", mapping: { n: node(null, [], "assistant", content, more) } }, 1)[0].messages[0];
  const pick = (m: Record<string, unknown>) => [m.role, m.content, m.parts, m.name, m.metadata];
  const image = { content_type: "image_asset_pointer", asset_pointer: "file-service://x", width: 1 };
  assertEquals(pick(one(text("a", "b"))), ["assistant", "a\nb", undefined, undefined, undefined]);
  assertEquals(pick(one({ content_type: "multimodal_text", parts: [image, "look"] })), [
    "assistant",
    "look",
    [image],
    undefined,
    { chatgpt: { content_type: "multimodal_text" } },
  ]);
  assertEquals(pick(one({ content_type: "code", language: "python", text: "1+1" }, { recipient: "python" })), [
    "assistant",
    "1+1",
    undefined,
    undefined,
    { chatgpt: { content_type: "code", language: "python", recipient: "python" } },
  ]);
  assertEquals(
    pick(one({ content_type: "execution_output", text: "2" }, { author: { role: "tool", name: "python" } })),
    ["assistant", "2", undefined, undefined, {
      chatgpt: { role: "tool", name: "python", content_type: "execution_output" },
    }],
  );
  const odd = { content_type: "thoughts", thoughts: [{ summary: "hm" }] };
  assertEquals(pick(one(odd, { author: { role: "critic" } })), [
    "assistant",
    "hm",
    undefined,
    undefined,
    { chatgpt: { role: "critic", content_type: "thoughts" } },
  ]);
  assertEquals(one(text(""), {}), undefined);
  assertEquals(one(text("x"), { status: "in_progress" }).status, "incomplete");
  assertEquals(readChatGpt({ title: "no mapping" }, 7)[0].error?.code, "invalid_request");
});

Deno.test("seconds keep their microseconds", () => {
  assertEquals(toTimestamp(1_700_000_000.000001), "2023-11-14T22:13:20.000001+00:00");
  assertEquals(toTimestamp(1_700_000_000), "2023-11-14T22:13:20.000000+00:00");
  assertEquals(toTimestamp(-0.5), "1969-12-31T23:59:59.500000+00:00");
  assertEquals(toTimestamp(1e300), undefined);
});

// ---- files of any size ----------------------------------------------------------------------------------------------

async function* inPieces(text: string, size: number): AsyncGenerator<string> {
  for (let i = 0; i < text.length; i += size) yield await Promise.resolve(text.slice(i, i + size));
}

Deno.test("lines and array elements are found however the file is cut into pieces", async () => {
  const elements = ['{"a":"},]\\"[{,"}', "[1,[2]]", '"x,\\\\"', "-1.5e3", "{}", '{"n":[{"m":"\\\\\\""}]}'];
  const array = `\ufeff [ ${elements.join(" ,\n")} ] \n`;
  for (const size of [1, 2, 3, 7, 1000]) {
    assertEquals(await Array.fromAsync(readElements(inPieces(array, size))), elements);
    assertEquals(await Array.fromAsync(readLines(inPieces("a\n\nbcd\ne", size))), ["a", "", "bcd", "e"]);
  }
  assertEquals(await Array.fromAsync(readElements(inPieces("[]", 1))), []);
  for (const broken of ["[1,2", "", "{}", "1", "[1] 2", "[1][2]", '["']) {
    await assertRejects(() => Array.fromAsync(readElements(inPieces(broken, 1))), SyntaxError, undefined, broken);
  }
});

Deno.test("a byte that is not UTF-8 breaks its line, wherever the file is cut into pieces", async () => {
  const bytes = new TextEncoder().encode('\ufeff"ü🧵"\n"?"\n"é"');
  bytes[bytes.indexOf(0x3f)] = 0xff;
  for (const size of [3, 4, 5, 1000]) {
    const pieces = async function* () {
      for (let i = 0; i < bytes.length; i += size) yield await Promise.resolve(bytes.subarray(i, i + size));
    };
    const lines = (await Array.fromAsync(readLines(readBytes(pieces())))).map(decode);
    assertEquals([lines[0], lines[2], lines.length], ['"ü🧵"', '"é"', 3]);
    assertThrows(() => JSON.parse(lines[1]), SyntaxError);
  }
});

Deno.test("the type of a line is known wherever it stands", () => {
  assertEquals(lineType('{"type": "message", "content": "{'), "message");
  assertEquals(lineType('{"id":1,"type":"end"}'), "end");
  assertEquals(lineType('{"id":1,"type":"end"'), undefined);
  assertEquals(lineType("null"), undefined);
});

/** Answers as the API does, and keeps what it was sent. */
function fakeApi(maxBytes = 4 * 1024 * 1024) {
  const requests: { type: string; [key: string]: unknown }[][] = [];
  const reports: ImportReport[] = [];
  const send = (body: string): Promise<ImportReport> => {
    const { records } = readNdjson(new TextEncoder().encode(body));
    requests.push(body.trim().split("\n").map((line) => JSON.parse(line)));
    assert(body.length <= maxBytes + 500, `${body.length} bytes`);
    const conversations = records.map(({ line, id, conversation, messages }) => ({
      line,
      id,
      new_id: String(conversation.continues ?? crypto.randomUUID()),
      status: "imported" as const,
      messages: messages.length,
      notes: [],
      left_out: {},
    }));
    const messages = conversations.reduce((sum, entry) => sum + entry.messages, 0);
    return Promise.resolve({
      imported: conversations.length,
      grown: 0,
      unchanged: 0,
      failed: 0,
      skipped: 0,
      messages,
      left_out: {},
      conversations,
    });
  };
  const splitter = new Splitter({ send, onReport: (report) => reports.push(report), maxBytes });
  return { requests, reports, splitter };
}

Deno.test("requests end between conversations, forks find their parents, large conversations go in parts", async () => {
  const { requests, reports, splitter } = fakeApi(2000);
  let number = 0;
  const lines = [
    ...Array.from({ length: 10 }, (_, i) => [conversation(`c${i}`), message("x".repeat(400))]).flat(),
    conversation("gone", { deleted: true }),
    message("t"),
    conversation("large", { parent_id: "c0", fork_sequence: 1 }),
    ...Array.from({ length: 12 }, (_, i) => message("y".repeat(400), { sequence_order: i + 2 })),
    conversation("last", { parent_id: "large", fork_sequence: 5 }),
    message("z"),
  ];
  for (const line of lines) {
    if (lineType(line) === "conversation") await splitter.begin(line, ++number);
    else await splitter.add(line, ++number);
  }
  await splitter.end();

  const sent = requests.flat();
  assertEquals(sent.filter((line) => line.type === "message").length, 24);
  const large = sent.filter((line) => line.id === "large");
  assertEquals(large.map((line) => line.more ?? false), [...large.slice(1).map(() => true), false]);
  assert(large.length > 2 && large.slice(1).every((line) => line.continues === large[1].continues));
  const idsOf = (id: string) => requests.find((lines) => lines.some((line) => line.id === id))![0] as never;
  const { map } = idsOf("large") as { map: Record<string, string> };
  assertEquals(Object.keys(map), ["c0"]);
  // The last request lets what no fork shares be cleared; those before keep it.
  assertEquals(requests.map(([ids]) => ids.more ?? false), [...requests.slice(1).map(() => true), false]);
  assertEquals(Object.keys(requests.at(-1)![0].map as object), ["gone", "large"]);
  assertEquals(reports.reduce((sum, report) => sum + report.imported, 0), 13);
  assertEquals(reports.reduce((sum, report) => sum + report.messages, 0), 24);
  const numbers = reports.flatMap((report) => report.conversations).map((entry) => entry.line);
  assertEquals(numbers.slice(0, 3), [1, 3, 5]);
});

Deno.test("no request has more lines, values or conversations than the API takes", async () => {
  const { requests, splitter } = fakeApi();
  let number = 0;
  for (let i = 0; i < 250; i++) await splitter.begin(conversation(`c${i}`), ++number);
  for (let i = 0; i < 12_000; i++) await splitter.add(message("x"), ++number);
  await splitter.begin(conversation("wide"), ++number);
  for (let i = 0; i < 6; i++) await splitter.add(message("x", { parts: Array(90_000).fill(0) }), ++number);
  await splitter.end();
  for (const lines of requests) {
    const { records } = read(...lines.map((line) => JSON.stringify(line)));
    assertEquals(records.filter(({ error }) => error), []);
  }
  const sent = requests.flat();
  assertEquals(sent.filter((line) => line.type === "message").length, 12_006);
  assertEquals(new Set(sent.map((line) => line.id).filter(Boolean)).size, 251);
});

Deno.test("a line that no request can hold fails its conversation and no other", async () => {
  const { requests, reports, splitter } = fakeApi(5 * 1024 * 1024);
  await splitter.begin(conversation("a"), 1);
  await splitter.add(message("1"), 2);
  await splitter.add(message("x".repeat(6 * 1024 * 1024)), 3);
  await splitter.begin(conversation("b"), 4);
  await splitter.end();
  assertEquals(reports.map(({ failed, conversations }) => [failed, conversations[0].id]), [[1, "a"], [0, "b"]]);
  assertEquals(requests.flat().map((line) => line.id ?? line.type), ["ids", "b"]);
});
