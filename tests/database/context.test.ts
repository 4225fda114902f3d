// public.get_context against a second implementation, over random histories and budgets; and what it reads.
import { assert, assertEquals } from "@std/assert";
import type postgres from "postgres";
import { writeContext } from "../../supabase/functions/_shared/formats/formats.ts";
import { refusals } from "../support/providers.ts";
import { connect } from "../support/stack.ts";
import {
  compacts,
  expectContext,
  type Format,
  FORMATS,
  isOut,
  type Json,
  piecesOf,
  random,
  randomRows,
  type Row,
} from "../support/context.ts";

const HISTORIES = 10_000;
const BATCH = 1000;

/** Runs in a transaction as the owner of the schema, with the claims of a new user, and leaves nothing behind. */
async function inTransaction(run: (tx: postgres.TransactionSql, user: string) => Promise<void>): Promise<void> {
  const sql = connect();
  const rolledBack = new Error("rolled back");
  try {
    await sql.begin(async (tx) => {
      const user = crypto.randomUUID();
      await tx`insert into auth.users (id, email) values (${user}, ${user + "@example.com"})`;
      await tx`select set_config('request.jwt.claims', ${JSON.stringify({ sub: user, role: "authenticated" })}, true)`;
      await run(tx, user);
      throw rolledBack;
    });
  } catch (error) {
    if (error !== rolledBack) throw error;
  } finally {
    await sql.end();
  }
}

interface Conversation {
  id: string;
  parent_id?: string;
  fork_sequence?: number;
  summary: string | null;
  /** Its own rows. */
  rows: Row[];
  /** What it shows, as if forking copied. */
  visible: Row[];
}

/** A conversation and, sometimes, forks of it and of them; each may have lost messages. */
function randomLine(rand: () => number): Conversation[] {
  const line: Conversation[] = [];
  const depth = rand() < 0.25 ? 2 + Math.floor(rand() * 2) : 1;
  const holes = rand() < 0.3 ? rand() * 0.3 : 0;
  while (line.length < depth) {
    const parent = line.at(-1);
    const length = rand() < 0.01 ? 100 + rand() * 500 : rand() * rand() * 40;
    // A fork lies above its parent's own fork, as fork_conversation makes it.
    const lowest = (parent?.fork_sequence ?? 0) + 1;
    const highest = parent?.rows.at(-1)?.sequence_order ?? 0;
    if (parent && highest < lowest) break;
    const at = parent ? lowest + Math.floor(rand() * (highest - lowest + 1)) : 0;
    const rows = randomRows(rand, at + 1, length).filter(() => rand() >= holes);
    line.push({
      id: crypto.randomUUID(),
      ...(parent && { parent_id: parent.id, fork_sequence: at }),
      summary: rand() < 0.3 ? (rand() < 0.1 ? "" : "They spoke of 天気 before.") : null,
      rows,
      visible: [...(parent?.visible.filter((row) => row.sequence_order <= at) ?? []), ...rows],
    });
  }
  return line;
}

async function store(tx: postgres.TransactionSql, user: string, conversations: Conversation[]): Promise<void> {
  await tx`
    insert into conversations (id, user_id, summary, parent_id, fork_sequence, last_sequence_order)
    select c.id, ${user}, c.summary, c.parent_id, c.fork_sequence, 100000
    from jsonb_populate_recordset(null::conversations, ${JSON.stringify(conversations)}::text::jsonb) c`;
  const rows = conversations.flatMap(({ id, rows }) => rows.map((row) => ({ conversation_id: id, ...row })));
  // With numbers and as the owner: the trigger that numbers rows stays out, as it does for a restore.
  await tx`
    insert into conversation_messages (
      conversation_id, user_id, sequence_order, type, role, content, parts, name, function_call, tool_calls,
      tool_call_id, item, source, model, status, token_count
    )
    select
      m.conversation_id, ${user}, m.sequence_order, coalesce(m.type, 'message'), m.role, m.content, m.parts, m.name,
      m.function_call, m.tool_calls, m.tool_call_id, m.item, m.source, m.model, coalesce(m.status, 'complete'), m.token_count
    from jsonb_populate_recordset(null::conversation_messages, ${JSON.stringify(rows)}::text::jsonb) m`;
}

interface Question {
  conversation: Conversation;
  max_tokens: number;
  max_messages?: number;
  begin?: "any" | "user";
  format?: Format;
}

/** Answers in bulk; an error is {error, detail}. */
async function ask(tx: postgres.TransactionSql, questions: Question[]): Promise<Json[]> {
  await tx`
    create or replace function pg_temp.try_context(
      p_id uuid, p_max_tokens integer, p_max_messages integer, p_begin text, p_format text
    ) returns jsonb
    language plpgsql as $$
    declare
      v_detail text;
    begin
      return public.get_context(
        p_id, p_max_tokens, p_max_messages, p_explain => true, p_begin => coalesce(p_begin, 'any'),
        p_format => coalesce(p_format, 'message')
      );
    exception when sqlstate 'PT409' then
      get stacked diagnostics v_detail = pg_exception_detail;
      return jsonb_build_object('error', sqlerrm, 'detail', v_detail);
    end $$`;
  const list = questions.map(({ conversation, ...limits }) => ({ id: conversation.id, ...limits }));
  const rows = await tx`
    select pg_temp.try_context(q.id, q.max_tokens, q.max_messages, q.begin, q.format) as answer
    from rows from (
      jsonb_to_recordset(${JSON.stringify(list)}::text::jsonb)
        as (id uuid, max_tokens integer, max_messages integer, begin text, format text)
    ) with ordinality as q (id, max_tokens, max_messages, begin, format, n)
    order by q.n`;
  return rows.map((row) => row.answer);
}

/** What a model's API demands of a request, whatever the rules of this project are. */
function checkRequest(messages: Json[], format: Format = "message"): void {
  const open: string[] = [];
  if (format === "anthropic" || format === "gemini") {
    assert(messages.length === 0 || piecesOf(messages[0])[0].kind === "user", "it does not begin with a user");
  }
  messages.forEach((message, i) => {
    const pieces = piecesOf(message);
    const calls = pieces.some(({ kind }) => kind === "call");
    const called = new Set<string>();
    for (const [j, { kind, key }] of pieces.entries()) {
      assert(kind !== "empty", "nothing is said");
      assert(!isOut(pieces[j], format), `${pieces[j].type} is for another API`);
      if (kind === "call") {
        // In content parts and in tool_calls: LangChain says it twice.
        if (key!.startsWith("name ") || !called.has(key!)) open.push(key!);
        called.add(key!);
      } else if (kind === "result") {
        const at = open.indexOf(key!);
        assert(at >= 0, `${key} answers no call that is open`);
        open.splice(at, 1);
      } else if (kind === "model" || kind === "reasoning") {
        assert(open.length === 0 || calls, "the model goes on before it has its results");
      } else {
        assert(open.length === 0, `${open} is not answered before somebody else speaks`);
      }
      if (kind === "reasoning") {
        const rest = [...pieces.slice(j + 1), ...messages.slice(i + 1).flatMap(piecesOf)];
        const next = rest.find((piece) => piece.kind !== "reasoning");
        assert(next && ["model", "call"].includes(next.kind), "lonely reasoning");
      }
    }
  });
  assertEquals(open, [], "calls without a result");
}

function check(question: Question, answer: Json): string {
  const { conversation, max_tokens, max_messages = Infinity, begin = "any", format = "message" } = question;
  const { visible, summary } = conversation;
  const expected = expectContext(visible, summary, max_tokens, { maxMessages: max_messages, begin, format });
  if (expected.shown === null) {
    assertEquals(answer.error, "budget_too_small");
    assert(answer.detail.includes(` ${expected.total} tokens in `), `${answer.detail} of ${expected.total}`);
    return "too small";
  }
  const { messages, total_tokens, truncated, explain } = answer;
  assert(messages.length <= max_messages && total_tokens <= max_tokens, "over budget");
  assertEquals(explain.included.map((one: Json) => one.sequence_order), messages.map((m: Json) => m.sequence_order));
  const sum = explain.included.reduce((sum: number, { tokens }: Json) => sum + tokens, 0);
  assertEquals(total_tokens, sum);

  const rest = summary ? messages.slice(1) : messages;
  if (summary) assertEquals(messages[0], { role: "system", name: "conversation_summary", content: summary });
  const first = rest.findIndex((m: Json) =>
    (m.type ?? "message") !== "message" || !/^(system|developer)$/.test(m.role)
  );
  const history = first < 0 ? [] : rest.slice(first).filter((m: Json) => m.type !== "compaction" || !compacts(format));
  checkRequest(history, format);
  const shown = rest.map((message: Json) => [message.sequence_order, piecesOf(message).length]);
  assertEquals([shown, truncated, total_tokens], [expected.shown, expected.truncated, expected.total]);
  for (const message of messages) {
    if (message.content === null) assert(message.parts ?? message.tool_calls ?? message.function_call ?? message.item);
  }
  // What a conversion needs beside what is shown.
  for (const message of rest) {
    const row = visible.find((row) => row.sequence_order === message.sequence_order)!;
    const whole = piecesOf(message).length === piecesOf(row).length;
    const { source, model, status } = message;
    assertEquals(
      { source, model, status },
      format === "message" ? { source: undefined, model: undefined, status: undefined } : {
        source: whole ? row.source : undefined,
        model: row.model,
        status: row.status,
      },
      JSON.stringify(row),
    );
  }

  // Everything is in, or it is said why not.
  let incomplete = 0;
  const compaction = compacts(format) ? visible.findLast((row) => row.type === "compaction") : undefined;
  const boundary = compaction?.sequence_order ?? 0;
  const missing = (row: Row) =>
    explain.left_out.find((one: Json) => one.from <= row.sequence_order && row.sequence_order <= one.to);
  for (const row of visible) {
    const said = missing(row);
    const pieces = rest.filter((m: Json) => m.sequence_order === row.sequence_order).flatMap(piecesOf).length;
    assertEquals(said === undefined, pieces === piecesOf(row).length, JSON.stringify(row));
    assertEquals(said?.in_part ?? false, said !== undefined && pieces > 0, JSON.stringify(row));
    if (said?.reason === "empty") assertEquals(piecesOf(row), [{ kind: "empty" }]);
    if (said !== undefined) incomplete++;
    // A format leaves out what nothing else has.
    const out = piecesOf(row).filter((piece) => isOut(piece, format)).length;
    if (said?.reason === "format") assert(out > 0, JSON.stringify(row));
    if (out > 0 && pieces + out === piecesOf(row).length && row.sequence_order > boundary && !truncated) {
      assertEquals(said?.reason, "format", JSON.stringify(row));
    }
  }
  // What is not read counts by its numbers, those of deleted messages too.
  const gaps = (visible.at(-1)?.sequence_order ?? 0) - visible.length;
  assert(incomplete <= answer.left_out && answer.left_out <= incomplete + gaps, `${answer.left_out} of ${incomplete}`);
  if (truncated) assert(explain.left_out.some((one: Json) => /over_budget|before_user/.test(one.reason)));
  return truncated ? "truncated" : "whole";
}

/** As the function answers it, the provider takes it. */
async function checkRefusals({ format = "message" }: Question, answer: Json): Promise<void> {
  if (format === "message" || answer.error) return;
  const { request } = writeContext(answer.messages, format);
  assertEquals(await refusals[format](request), [], `${format} refuses ${JSON.stringify(request)}`);
}

Deno.test("over 10,000 random histories and budgets the context keeps its guarantees", async () => {
  const rand = random(20261121);
  const outcomes: Record<string, number> = {};
  for (let done = 0; done < HISTORIES; done += BATCH) {
    await inTransaction(async (tx, user) => {
      const questions: Question[] = [];
      const all: Conversation[] = [];
      for (let i = 0; i < BATCH; i++) {
        const line = randomLine(rand);
        all.push(...line);
        const conversation = line.at(-1)!;
        const format = FORMATS[Math.floor(rand() * FORMATS.length)];
        const { costs, total } = expectContext(conversation.visible, conversation.summary, 2 ** 31 - 1, { format });
        // Exactly enough for one of the possible answers, one too little, or anything.
        const some = costs[Math.floor(rand() * costs.length)] ?? total;
        const exact = some - Math.floor(rand() * 2);
        const kind = rand();
        questions.push({
          conversation,
          max_tokens: Math.max(kind < 0.6 ? exact : kind < 0.8 ? Math.floor(rand() * total) : 2 ** 31 - 1, 1),
          ...(rand() < 0.4 && { max_messages: 1 + Math.floor(rand() * (conversation.visible.length + 2)) }),
          ...(rand() < 0.3 && { begin: "user" }),
          format,
        });
      }
      await store(tx, user, all);
      const answers = await ask(tx, questions);
      for (const [i, question] of questions.entries()) {
        try {
          const outcome = check(question, answers[i]);
          await checkRefusals(question, answers[i]);
          outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
        } catch (error) {
          const { id: _, rows: __, ...shown } = question.conversation;
          const about = { history: done + i, ...question, conversation: shown, answer: answers[i] };
          throw new Error(`${(error as Error).message}\n${JSON.stringify(about)}`);
        }
      }
    });
  }
  // The generator reaches every outcome often.
  for (const outcome of ["too small", "truncated", "whole"]) {
    assert(outcomes[outcome] > HISTORIES / 10, JSON.stringify(outcomes));
  }
});

Deno.test("the checker of requests finds what model APIs refuse, in every shape", () => {
  const user = { role: "user", content: "q" };
  const done = { role: "assistant", content: "done" };
  const call = (...ids: string[]) => ({ role: "assistant", tool_calls: ids.map((id) => ({ id, type: "function" })) });
  const result = (tool_call_id: string) => ({ role: "tool", tool_call_id, content: "r" });
  const item = (type: string, rest: Json = {}) => ({ type, item: { type, ...rest } });
  const parts = (role: string, ...parts: Json[]) => ({ role, parts });
  const use = (id: string) => ({ type: "tool_use", id, name: "f", input: {} });
  const used = (tool_use_id: string) => ({ type: "tool_result", tool_use_id, content: "42" });
  const gemini = (name: string) => ({ functionCall: { name, args: {} } });
  const answered = (name: string) => ({ functionResponse: { name, response: {} } });
  const reasoning = item("reasoning");
  const right: Json[][] = [
    [user, call("a", "b"), result("b"), result("a"), done],
    [user, reasoning, item("function_call", { call_id: "a" }), item("function_call_output", { call_id: "a" }), done],
    [user, parts("assistant", use("a")), parts("user", used("a"), { type: "text", text: "and?" }), done],
    [user, parts("assistant", gemini("f"), gemini("f")), parts("user", answered("f"), answered("f"))],
    [user, parts("assistant", { type: "thinking" }, use("a")), parts("user", used("a"))],
  ];
  for (const messages of right) checkRequest(messages);
  const faults: Record<string, Json[]> = {
    "a call without its result": [user, call("a")],
    "one of two calls without its result": [user, call("a", "b"), result("a"), done],
    "a result without its call": [user, result("a"), done],
    "a result before its call": [user, result("a"), call("a")],
    "a second result": [user, call("a"), result("a"), result("a")],
    "a user between call and result": [user, call("a"), user, result("a")],
    "a system message between call and result": [user, call("a"), { role: "system", content: "n" }, result("a")],
    "an answer between call and result": [user, call("a"), done, result("a")],
    "a result of another call": [user, call("a"), result("b")],
    "the next step before the result of the last": [user, call("a"), done, call("b"), result("a"), result("b")],
    "an item's call without its result": [user, item("function_call", { call_id: "a" })],
    "an item's result without its call": [user, item("custom_tool_call_output", { call_id: "a" })],
    "an approval without its request": [user, item("mcp_approval_response", { approval_request_id: "a" })],
    "a request for approval without an answer": [user, item("mcp_approval_request", { id: "a" }), done],
    "reasoning without what followed": [user, reasoning],
    "reasoning before a user": [user, reasoning, user, done],
    "reasoning before a result": [user, call("a"), reasoning, result("a")],
    "an empty answer": [user, { role: "assistant", content: "" }],
    "an empty part alone": [user, parts("assistant", { type: "text", text: " " })],
    "a tool_use without its tool_result": [user, parts("assistant", use("a")), user],
    "words before the tool_result": [
      user,
      parts("assistant", use("a")),
      parts("user", { type: "text", text: "?" }, used("a")),
    ],
    "one of two functionCalls without its response": [
      user,
      parts("assistant", gemini("f"), gemini("f")),
      parts("user", answered("f")),
    ],
    "a tool of a UIMessage that has not answered": [
      user,
      parts("assistant", { type: "tool-f", toolCallId: "a", state: "input-available" }),
      user,
    ],
    "thinking alone": [user, parts("assistant", { type: "thinking" })],
  };
  for (const [name, messages] of Object.entries(faults)) {
    let found = false;
    try {
      checkRequest(messages);
    } catch {
      found = true;
    }
    assert(found, name);
  }
});

Deno.test("the checker of answers finds what a format must not have, or has to", async () => {
  const rows: Row[] = [
    { role: "user", content: "earlier" },
    { role: "assistant", content: "then" },
    { type: "compaction", item: { type: "compaction", encrypted_content: "x" } },
    { role: "user", content: "q", source: { dialect: "chat", rest: { refusal: null } } },
    { type: "reasoning", item: { type: "reasoning", summary: [] } },
    {
      role: "assistant",
      parts: [
        { type: "thinking", thinking: "hm", signature: "x" },
        { type: "thinking", thinking: "hm" },
        { text: "hm", thought: true },
        { type: "text", text: "a" },
      ],
      model: "m",
      status: "incomplete",
      source: { dialect: "anthropic", rest: {} },
    },
  ].map((row, i) => ({ sequence_order: i + 1, ...row } as Row));
  const conversation = { id: crypto.randomUUID(), summary: null, rows, visible: rows };
  const questions = FORMATS.map((format): Question => ({ conversation, max_tokens: 10_000, format }));
  await inTransaction(async (tx, user) => {
    await store(tx, user, [conversation]);
    const answers = await ask(tx, questions);
    const shown = (format: Format) => {
      const { messages } = answers[FORMATS.indexOf(format)];
      return messages.map(({ sequence_order, parts }: Json) => parts ? [sequence_order, parts.length] : sequence_order);
    };
    questions.forEach((question, i) => check(question, answers[i]));
    assertEquals(FORMATS.map(shown), [
      [3, 4, 5, [6, 4]],
      [1, 2, 4, [6, 1]],
      [3, 4, 5, [6, 1]],
      [1, 2, 4, [6, 2]],
      [1, 2, 4, [6, 2]],
      [1, 2, 4, 5, [6, 4]],
      [1, 2, 4, 5, [6, 4]],
    ]);
    assertEquals(answers.map(({ left_out }) => left_out), [2, 3, 3, 3, 3, 1, 1]);

    const faults: [name: string, format: Format, plant: (answer: Json) => void][] = [
      ["a message too few is counted", "chat", (answer) => answer.left_out--],
      ["a message too many is counted", "message", (answer) => answer.left_out++],
      ["a format's message has no source", "chat", ({ messages }) => delete messages[2].source],
      ["a message in part has its source", "gemini", ({ messages }) => messages[3].source = rows[5].source],
      ["message has a source", "message", ({ messages }) => messages[1].source = rows[3].source],
      ["the model is missing", "anthropic", ({ messages }) => delete messages[3].model],
      ["the status is missing", "ai-sdk", ({ messages }) => delete messages[4].status],
      ["message has a status", "message", ({ messages }) => messages[3].status = "incomplete"],
      ["a complete message says so", "langchain", ({ messages }) => messages[0].status = "complete"],
      ["thinking that nobody signed", "anthropic", ({ messages }) => messages[3].parts.unshift(rows[5].parts![1])],
      ["thinking of another API", "gemini", ({ messages }) => messages[3].parts.unshift(rows[5].parts![0])],
      ["a thought of another API", "responses", ({ messages }) => messages[3].parts.unshift(rows[5].parts![2])],
      ["thinking that its API has signed is missing", "anthropic", ({ messages }) => messages[3].parts.shift()],
      ["what is left out has no reason", "chat", ({ explain }) => explain.left_out.pop()],
      ["what is left out has another reason", "chat", ({ explain }) => explain.left_out.at(-1).reason = "unpaired"],
      ["what is in part is said to be out", "gemini", ({ explain }) => delete explain.left_out.at(-1).in_part],
      ["the compaction item is in", "anthropic", (answer) => {
        answer.messages.splice(2, 0, { type: "compaction", item: rows[2].item, sequence_order: 3, author: "user" });
        answer.explain.included.splice(2, 0, { sequence_order: 3, tokens: 0, reason: "fits" });
      }],
      ["it begins with the model", "gemini", (answer) => {
        answer.messages.shift();
        answer.total_tokens -= answer.explain.included.shift().tokens;
      }],
    ];
    for (const [name, format, plant] of faults) {
      const i = FORMATS.indexOf(format);
      const answer = structuredClone(answers[i]);
      plant(answer);
      let found = false;
      try {
        check(questions[i], answer);
      } catch {
        found = true;
      }
      assert(found, name);
    }
  });
});

Deno.test("what keeps reading bounded: a result 256 messages after its call, a question 10,000 before the end", async () => {
  const chat = (n: number, role: string): Row => ({ sequence_order: n, role, content: "x", token_count: 1 });
  const filled = (length: number, special: Record<number, Partial<Row>>) =>
    Array.from({ length }, (_, i): Row => ({ ...chat(i + 1, "assistant"), ...special[i + 1] }));
  const call = { tool_calls: [{ id: "c", type: "function" }] };
  const result = { role: "tool", tool_call_id: "c" };
  const user = { role: "user" };
  const cases: [rows: Row[], max_tokens: number, shown: number | null][] = [
    [filled(300, { 1: user, 2: call, 258: result }), 300, 300],
    [filled(300, { 1: user, 2: call, 259: result }), 300, 299],
    // A group that is too long for the budget is left out whole, and a lost result does not hold the rest back.
    [filled(300, { 1: user, 2: call, 258: result }), 100, 100],
    [filled(300, { 1: user, 2: call, 258: result, 290: user }), 100, 11],
    [filled(300, { 1: user, 2: call, 259: result, 290: user }), 100, 11],
    [filled(300, { 259: result, 290: user }), 100, 11],
    // The question of a long turn is looked for in 10,000 messages.
    [filled(9_990, { 2: user }), 999, 999],
    [filled(3000, {}), 10, 10],
    // The first 64 messages can lead.
    [filled(70, Object.fromEntries(Array.from({ length: 70 }, (_, i) => [i + 1, { role: "system" }]))), 66, 66],
  ];
  await inTransaction(async (tx, owner) => {
    const questions = cases.map(([rows, max_tokens]): Question => {
      const conversation = { id: crypto.randomUUID(), summary: null, rows, visible: rows };
      return { conversation, max_tokens };
    });
    await store(tx, owner, questions.map(({ conversation }) => conversation));
    const answers = await ask(tx, questions);
    cases.forEach(([, , shown], i) => {
      assertEquals(answers[i].messages?.length ?? null, shown, `case ${i}`);
      check(questions[i], answers[i]);
    });

    const rows = filled(10_100, { 2: user });
    const conversation = { id: crypto.randomUUID(), summary: null, rows, visible: rows };
    await store(tx, owner, [conversation]);
    const [beyond] = await ask(tx, [{ conversation, max_tokens: 10 }]);
    const numbers = beyond.messages.map((message: Json) => message.sequence_order);
    assertEquals([numbers[0], numbers.length, beyond.truncated], [10_091, 10, true]);
    const [all] = await ask(tx, [{ conversation, max_tokens: 100_000 }]);
    // The oldest may be half of a group.
    assertEquals([all.messages.length, all.truncated], [9_999, true]);
  });
});

Deno.test("of 10,000 messages the context reads what it returns and a bounded margin", async () => {
  await inTransaction(async (tx, user) => {
    const id = crypto.randomUUID();
    await tx`insert into conversations (id, user_id, last_sequence_order) values (${id}, ${user}, 10000)`;
    await tx`
      insert into conversation_messages (conversation_id, user_id, sequence_order, role, content, token_count)
      select
        ${id}, ${user}, n, case when n = 1 then 'system' when n % 2 = 0 then 'user' else 'assistant' end,
        repeat('message ', 40), 100
      from generate_series(1, 10000) n`;
    await tx`analyze conversation_messages`;
    // In rows, which do not depend on how other tests have left the table, as blocks do.
    const fetched = async (): Promise<number> => {
      const [row] = await tx`
        select coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) as rows
        from pg_stat_xact_user_tables
        where relid = 'public.conversation_messages'::regclass`;
      return Number(row.rows);
    };
    const context = async (maxTokens: number): Promise<number> => {
      const before = await fetched();
      await tx`select public.get_context(${id}, ${maxTokens})`;
      return await fetched() - before;
    };
    const [small, larger, whole] = [await context(2_000), await context(100_000), await context(2_000_000)];
    const whatItTook = JSON.stringify({ small, larger, whole });
    // 20 messages and 1,000 of 10,000: 128 rows at most for the first look, and twice the answer.
    assert(small < 150, whatItTook);
    assert(larger < 2_150, whatItTook);
    // The control: a budget for everything reads everything.
    assert(whole >= 10_000, whatItTook);

    const [{ answer }] = await tx`select public.get_context(${id}, 2000) as answer`;
    assertEquals(
      [answer.messages.length, answer.messages[1].sequence_order, answer.total_tokens, answer.truncated],
      [20, 9982, 2000, true],
    );
  });
});
