// NUL and halves of surrogate pairs: what is said may hold them and is equal again, what names something may not.
import { assert, assertEquals, assertMatch } from "@std/assert";
import { apiUrl, backend, connect, newConversation, publishableKey, signUp, uuid } from "../support/stack.ts";
import { exportLines, exportText } from "../support/users.ts";

// deno-lint-ignore no-explicit-any -- every shape
type Any = any;

/** All that Postgres cannot store, what stands for it there, and what looks like that. */
const ODD = 'PK\u0003\u0004\0 rain \ud83c, \uddf5 thread 🧵 \ufdd0 \ufdd00000 \ufdd0fdd0 \\u0000 \\\0 "\ud83c"';
const odd = { text: ODD, [ODD]: [ODD, { deep: [ODD, null, 1] }], "\0": "\ud83c", "\ufdd00000": "\uddf5" };
const json = JSON.stringify(odd);

const alice = await signUp();

const send = async (method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<Any> => {
  const answer = await alice.request(method, path, { body, headers });
  assert(answer.status < 300, `${method} ${path}: ${answer.status} ${JSON.stringify(answer.body)}`);
  return answer.body;
};

const messages: Any[] = [
  { role: "user", content: ODD, metadata: { odd } },
  { role: "user", parts: [{ type: "text", text: ODD }, odd] },
  { role: "assistant", content: null, function_call: { name: "f", arguments: json, odd }, usage: odd },
  {
    role: "assistant",
    content: "",
    tool_calls: [{ id: "call_1", type: "function", function: { name: "g", arguments: ODD } }],
  },
  { role: "tool", tool_call_id: "call_1", content: ODD },
];
/** Of each answered message the fields that were sent. */
const asSent = (rows: Any[], sent: Any[] = messages) =>
  rows.map((row, i) => Object.fromEntries(Object.keys(sent[i]).map((name) => [name, row[name]])));

Deno.test("messages, metadata and summaries come back equal, by every way that shows them", async () => {
  const id = (await send("POST", "/conversations", { title: "odd", metadata: { odd }, messages })).id;
  const key = { "idempotency-key": uuid() };
  const appended = await send("POST", `/conversations/${id}/messages`, { messages }, key);
  assertEquals(asSent(appended.messages), messages);
  assertEquals(await send("POST", `/conversations/${id}/messages`, { messages }, key), appended, "repeated");
  const other = await alice.request("POST", `/conversations/${id}/messages`, {
    body: { messages: messages.with(0, { ...messages[0], content: ODD.replaceAll("\0", "\ufdd00000") }) },
    headers: key,
  });
  assertEquals([other.status, other.body.code], [409, "idempotency_mismatch"], "NUL is not what stands for it");

  const { data } = await send("GET", `/conversations/${id}/messages`);
  assertEquals(asSent(data, [...messages, ...messages]), [...messages, ...messages]);
  const context = await send("GET", `/conversations/${id}/context?max_tokens=100000`);
  assertEquals([context.messages[0].content, context.messages[1].parts], [ODD, messages[1].parts]);

  const changed = await send("PATCH", `/conversations/${id}`, { summary: ODD, metadata: { odd: [odd] } });
  assertEquals([changed.summary, changed.metadata], [ODD, { odd: [odd] }]);
  assertEquals(await send("GET", `/conversations/${id}`), changed);
  assertEquals((await send("GET", "/conversations")).data.find((row: Any) => row.id === id), changed);
  const fork = await send("POST", `/conversations/${id}/fork`, { at: 2 });
  assertEquals(asSent((await send("GET", `/conversations/${fork.id}/messages`)).data), messages.slice(0, 2));
});

Deno.test("items and responses come back equal", async () => {
  const items = [
    { type: "message", role: "user", content: [{ type: "input_text", text: ODD }] },
    { type: "function_call", call_id: "call_1", name: "read", arguments: ODD },
    { type: "function_call_output", call_id: "call_1", output: ODD },
    { type: "mystery", odd },
  ];
  const equal = (answered: Any[]) => assertEquals(asSent(answered, items), items);
  const { id } = await send("POST", "/openai/v1/conversations", { items, metadata: { note: ODD } });
  assertEquals((await send("GET", `/openai/v1/conversations/${id}`)).metadata, { note: ODD });
  equal((await send("GET", `/openai/v1/conversations/${id}/items?order=asc`)).data);
  const { data } = await send("POST", `/openai/v1/conversations/${id}/items`, { items });
  equal(data);
  assertEquals((await send("GET", `/openai/v1/conversations/${id}/items/${data[3].id}`)).odd, odd);

  const response = `resp_${uuid()}`;
  const body = { input: [items[0]], output: items.slice(1), model: "m", provider: "p" };
  await send("PUT", `/responses/${response}`, body);
  const again = await alice.request("PUT", `/responses/${response}`, { body });
  assertEquals(
    [again.status, again.headers.get("idempotent-replayed")],
    [200, "true"],
    "the same is known as the same",
  );
  equal((await send("GET", `/responses/${response}`)).input_items);
  equal((await send("POST", `/responses/${response}/merge`, { input: ODD })).input_items.slice(0, 4));
  equal([items[0], ...(await send("GET", `/openai/v1/responses/${response}`)).output]);
});

Deno.test("events come back equal, in pages, streams, audits and contexts", async () => {
  const { id } = await send("POST", "/sessions", { metadata: { odd } });
  const events = [
    { event_type: "user_message", content: ODD },
    { event_type: "tool_result", content: odd },
    { event_type: "ai_chunk", content: { text: `snow \ud83d` } },
    { event_type: "ai_chunk", content: { text: "\udc8e and \0" } },
  ];
  assertEquals(asSent((await send("POST", `/sessions/${id}/events`, { events })).events, events), events);
  assertEquals(asSent((await send("GET", `/sessions/${id}/events`)).data, events), events);
  const audit = await send("GET", `/sessions/audit?fold=true`);
  const [folded] = audit.data.filter((event: Any) => event.session_id === id).slice(2);
  assertEquals(folded.content, { text: "snow \u{1f48e} and \0" }, "two halves are one character again");
  const context = await send("GET", "/sessions/context?max_tokens=100000");
  assert(context.messages.some((message: Any) => message.content === ODD));
  const ended = await send("POST", `/sessions/${id}/end`, { summary: ODD });
  assertEquals([ended.summary, ended.metadata], [ODD, { odd }]);

  const stream = await fetch(`${apiUrl}/functions/v1/sessions/${id}/events/stream`, {
    headers: { apikey: publishableKey, authorization: `Bearer ${alice.token}` },
  });
  const lines = (await stream.text()).split("\n").filter((line) => line.startsWith("data: "));
  const [last, ...rest] = lines.map((line) => JSON.parse(line.slice(6))).reverse();
  assertEquals([last.summary, asSent(rest.reverse(), events)], [ODD, events]);

  // Words, on both sides of a gap; and nothing of what stands for it.
  const found = async (q: string) =>
    (await send("GET", `/sessions/audit?q=${encodeURIComponent(q)}`)).data
      .filter((event: Any) => event.session_id === id).map((event: Any) => event.sequence);
  assertEquals(await found("rain"), [1, 2]);
  assertEquals(await found(" and "), [4]);
  for (const digits of ["0000", "d83c", "ddf5", "dc8e"]) {
    assertEquals(await found(digits), ["0000"].includes(digits) ? [1, 2] : [], digits);
  }
});

Deno.test("documents come back equal, and are found by what they hold", async () => {
  const at = `/documents/c_${uuid()}`;
  const post = (route: string, body: unknown) => send("POST", `${at}/${route}`, body);
  const documents = [{ id: "a", ...odd }, { id: "b", text: "\0" }, { id: "c", text: "\ufdd00000" }, {
    id: "d",
    text: "",
  }];
  const fields = (document: Any) => ({ ...document, creation_utc: undefined });
  assertEquals(fields((await post("insert_one", { document: documents[0] })).document), fields(documents[0]));
  const inserted = await post("insert_many", { documents: documents.slice(1) });
  assertEquals(inserted.documents.map(fields), documents.slice(1).map(fields));

  const find = async (filters: unknown) => (await post("find", { filters })).items.map(({ id }: Any) => id);
  assertEquals(await find({ text: ODD }), ["a"]);
  assertEquals(await find({ text: { $eq: "\0" } }), ["b"]);
  assertEquals(await find({ text: { $in: ["\0", "\ufdd00000"] } }), ["b", "c"]);
  assertEquals(await find({ text: { $nin: ["\0", ODD] } }), ["c", "d"]);
  assertEquals(await find({ text: { $like: "PK%rain \ud83c,%" } }), ["a"]);
  assertEquals(await find({ "\0": "\ud83c" }), ["a"]);
  assertEquals(await find({ "\ufdd00000": { $exists: true } }), ["a"]);
  const { status, body } = await alice.request("POST", `${at}/find`, { body: { filters: { "\0": { $odd: 1 } } } });
  assertEquals([status, body.details[0].path], [400, "filters.\0.$odd"], "an error names it as it was sent");

  const updated = await post("update_one", { filters: { text: "\0" }, params: { text: ODD, more: odd } });
  assertEquals(fields(updated.updated_document), { id: "b", text: ODD, more: odd, creation_utc: undefined });
  const failed = await post("failures", { id: "b", reason: ODD });
  assertEquals([failed.reason, failed.document.more], [ODD, odd]);
  assertEquals((await send("GET", `${at}/failures`)).data[0], failed);
  assertEquals((await post("failures/restore", { id: "b" })).document.more, odd);
  assertEquals((await post("delete_many", { filters: { text: ODD } })).deleted_count, 2);
});

Deno.test("an export has it, and an import brings it back", async () => {
  const carol = await signUp();
  const id = await newConversation(carol, { title: "odd", metadata: { odd }, messages });
  await carol.request("PATCH", `/conversations/${id}`, { body: { summary: ODD } });
  await carol.request("POST", `/documents/c_${uuid()}/insert_one`, { body: { document: odd } });
  const lines = await exportText(carol.request, "/conversations/export");
  assertEquals(asSent(lines.slice(1, -1).map((line) => JSON.parse(line))), messages);

  const dave = await signUp();
  const imported = await dave.request("POST", "/conversations/import", {
    body: lines.join("\n"),
    headers: { "content-type": "application/x-ndjson" },
  });
  assertEquals(
    [imported.status, imported.body.imported, imported.body.failed],
    [200, 1, 0],
    JSON.stringify(imported.body),
  );
  const { new_id } = imported.body.conversations[0];
  const copy = (await dave.request("GET", `/conversations/${new_id}`)).body;
  assertEquals([copy.title, copy.summary, copy.metadata], ["odd", ODD, { odd }]);
  assertEquals(asSent((await dave.request("GET", `/conversations/${new_id}/messages`)).body.data), messages);

  const mine = await exportLines(carol.request);
  assertEquals(asSent(mine.filter(({ type }) => type === "message")), messages);
  assertEquals(mine.find(({ type }) => type === "document")!.document.text, ODD);

  const say = (role: string, text: string) => ({
    author: { role },
    content: { content_type: "text", parts: [text] },
    metadata: { citations: [odd] },
  });
  const chat = {
    id: uuid(),
    gizmo_id: ODD,
    mapping: {
      a: { parent: null, children: ["b"], message: say("user", ODD) },
      b: { parent: "a", children: [], message: say("assistant", "\0") },
    },
  };
  const { body } = await dave.request("POST", "/conversations/import", { body: [chat] });
  assertEquals([body.imported, body.messages, body.left_out], [1, 2, {}], JSON.stringify(body));
  const { body: { data } } = await dave.request("GET", `/conversations/${body.conversations[0].new_id}/messages`);
  assertEquals(data.map((row: Any) => [row.content, row.metadata.chatgpt.citations]), [[ODD, [odd]], ["\0", [odd]]]);
  const about = (await dave.request("GET", `/conversations/${body.conversations[0].new_id}`)).body;
  assertEquals(about.metadata.chatgpt, { gizmo_id: ODD });
});

Deno.test("ids, names, titles, parameters and the names of metadata are refused with it, and taken without", async () => {
  const id = await newConversation(alice, { messages: [{ role: "user", content: "x" }] });
  const conv = `conv_${id.replaceAll("-", "")}`;
  const { id: session } = await send("POST", "/sessions", {});
  const at = `/documents/c_${uuid()}`;
  const item = { type: "function_call_output", call_id: "c", output: "x" };
  const response = { input: "x", output: [], model: "m", provider: "p" };
  const line = (fields: object, ...more: object[]) =>
    [{ type: "conversation" }, { type: "message", role: "user", content: "x", ...fields }, ...more]
      .map((line) => JSON.stringify(line)).join("\n");
  const cases: [method: string, path: string, body: (name: string) => unknown, failing: string][] = [
    ["POST", "/conversations", (title) => ({ title }), "title"],
    ["POST", "/conversations", (name) => ({ metadata: { [name]: 1 } }), "metadata.*"],
    ["PATCH", `/conversations/${id}`, (title) => ({ title }), "title"],
    ["PATCH", `/conversations/${id}`, (name) => ({ metadata: { [name]: 1 } }), "metadata.*"],
    ...["type", "name", "item_id", "model", "tool_call_id"].map((field): typeof cases[number] => [
      "POST",
      `/conversations/${id}/messages`,
      (name) => ({ messages: [{ role: "user", content: "x" }, { role: "user", content: "x", [field]: name }] }),
      `messages[1].${field}`,
    ]),
    ["POST", `/conversations/${id}/messages`, (name) => ({
      messages: [{ role: "user", content: "x", metadata: { [name]: 1 } }],
    }), "messages[0].metadata.*"],
    ["POST", "/openai/v1/conversations", (name) => ({ metadata: { [name]: "x" } }), "metadata.*"],
    ["POST", `/openai/v1/conversations/${conv}/items`, (id) => ({ items: [{ ...item, id }] }), "items[0].id"],
    ["POST", `/openai/v1/conversations/${conv}/items`, (type) => ({ items: [{ ...item, type }] }), "items[0].type"],
    [
      "POST",
      `/openai/v1/conversations/${conv}/items`,
      (call_id) => ({ items: [{ ...item, call_id }] }),
      "items[0].call_id",
    ],
    ["PUT", `/responses/r_${uuid()}`, (model) => ({ ...response, model }), "model"],
    ["PUT", `/responses/r_${uuid()}`, (provider) => ({ ...response, provider }), "provider"],
    ["PUT", `/responses/r_${uuid()}`, (id) => ({ ...response, output: [{ ...item, id }] }), "output[0].id"],
    [
      "PUT",
      `/responses/r_${uuid()}`,
      (call_id) => ({ ...response, output: [{ ...item, call_id }] }),
      "output[0].call_id",
    ],
    ["POST", "/sessions", (name) => ({ metadata: { [name]: 1 } }), "metadata.*"],
    ...["event_type", "source", "trace_id"].map((field): typeof cases[number] => [
      "POST",
      `/sessions/${session}/events`,
      (name) => ({ events: [{ event_type: "x", content: "x", [field]: name }] }),
      `events[0].${field}`,
    ]),
    ["POST", `${at}/insert_one`, (id) => ({ document: { id } }), "document.id"],
    ["POST", `${at}/insert_one`, (version) => ({ document: { version } }), "document.version"],
    ["PUT", `${at}/version`, (version) => ({ version, expected_version: null }), "version"],
    ["POST", `${at}/find_one`, (field) => ({ sort: [{ field }] }), "sort.0.field"],
    ["POST", `${at}/update_one`, (id) => ({ filters: {}, params: { id } }), "params.id"],
  ];
  for (const [method, path, body, failing] of cases) {
    for (const name of ["a\0", "a\ud83c", "\uddf5", "a\ufdd0"]) {
      const refused = await alice.request(method, path, { body: body(name) });
      const where = `${method} ${path} ${JSON.stringify(body(name))}: ${JSON.stringify(refused.body)}`;
      assertEquals(refused.status, 400, where);
      if (path.startsWith("/openai")) {
        assertEquals(refused.body.error.param, failing.replace("*", name), where);
      } else if (failing !== "sort.0.field") { // a union says where, and not what
        assertEquals(refused.body.details[0].path, failing.replace("*", name), where);
        assertMatch(refused.body.details[0].message, /NUL|surrogate|U\+FDD0/);
      }
    }
    const named = body(`a${uuid()}`);
    const taken = await alice.request(method, path, { body: named });
    assert(taken.status < 300, `${method} ${path} ${JSON.stringify(named)}: ${JSON.stringify(taken.body)}`);
  }

  for (const name of ["a%00", "a%EF%B7%90"]) {
    for (
      const path of [
        `/conversations/search?q=${name}`,
        `/sessions?user_id=${name}`,
        `/sessions/audit?q=${name}`,
        `/sessions/${session}/events?types=${name}`,
        `/documents?cursor=${name}`,
        `${at}/failures?cursor=${name}`,
        `/responses/${name}`,
        `/openai/v1/responses/${name}`,
        `/openai/v1/conversations/${conv}/items/${name}`,
      ]
    ) {
      assertEquals((await alice.request("GET", path)).status, 400, path);
      const { status } = await alice.request("GET", path.replace(name, "a"));
      assert(status === 200 || status === 404, `${status} ${path}`);
    }
  }
  for (const metadata of ['{"a":"\\u0000"}', '{"a":["\\ud83c"]}', '{"\ufdd0":1}', '{"__proto__":{"a":"\\u0000"}}']) {
    const { status, body } = await alice.request("GET", `/conversations?metadata=${encodeURIComponent(metadata)}`);
    assertEquals([status, body.details?.[0].path], [400, "metadata"], metadata);
  }
  assertEquals((await alice.request("GET", '/conversations?metadata={"a":"b","__proto__":{}}')).status, 200);

  for (const name of ["\0", "\ud83c", "\ufdd0"]) {
    for (
      const body of [
        line({ item_id: name }),
        line({ name }),
        line({}).replace('"conversation"', `"conversation","title":${JSON.stringify(name)}`),
      ]
    ) {
      const options = { body, headers: { "content-type": "application/x-ndjson" } };
      const { body: report } = await alice.request("POST", "/conversations/import", options);
      assertEquals([report.imported, report.failed], [0, 1], JSON.stringify(report));
      assertEquals(report.conversations[0].error.code, "invalid_request");
    }
    const mapping = { a: { parent: null, children: [], message: { author: { role: "user" }, content: "x" } } };
    const { body: report } = await alice.request("POST", "/conversations/import", {
      body: [{ id: uuid(), title: name, mapping }, { id: name, mapping }, { id: uuid(), title: "a", mapping }],
    });
    assertEquals([report.imported, report.failed], [1, 2], JSON.stringify(report));
  }
});

Deno.test("a search takes it for a gap, and a snippet does not show what stands for it", async () => {
  const erin = await signUp();
  const contents = [
    "alpha\0beta half an emoji \ud83c gamma",
    "delta\ufdd0epsilon, é",
    "zeta 0000 eta d83c",
    `${"x ".repeat(100)}theta \0\0\0 iota\ud83c`,
  ];
  await newConversation(erin, { messages: contents.map((content) => ({ role: "user", content })) });
  await newConversation(erin, {
    messages: [{ role: "user", parts: [{ type: "text", text: "kappa\0lambda \ud83c" }] }],
  });
  const search = async (q: string) => {
    const { status, body } = await erin.request("GET", `/conversations/search?q=${encodeURIComponent(q)}`);
    assertEquals(status, 200);
    return body.data.map(({ snippet }: Any) => snippet);
  };
  const first = "<mark>alpha</mark> beta half an emoji   gamma";
  const both = async () => {
    assertEquals(await search("alpha"), [first.replace("   ", " ")]);
    for (
      const word of ["beta", "gamma", '"emoji gamma"', '"alpha beta"', "epsilon", "theta", "iota", "kappa", "lambda"]
    ) {
      const found = await search(word);
      assertEquals(found.length, 1, word);
      assert(!/[\0\ufdd0]|0000|d83c|fdd0/.test(found[0]) && found[0].isWellFormed(), found[0]);
    }
    for (const digits of ["0000", "d83c"]) {
      assertEquals((await search(digits)).length, 1, digits);
      assertMatch((await search(digits))[0], /zeta/);
    }
    assertEquals(await search("fdd0"), []);
    assertEquals(await search("alphabeta OR 0000beta OR fdd0*"), []);
  };
  await both();
  // The same by the filters that a job makes.
  const sql = connect();
  try {
    await sql`
      update private.search_filters f set (up_to_sequence, words) =
        (select m.up_to_sequence, m.words from private.make_search_filter(f.conversation_id, f.block) m)
      where f.conversation_id in (select id from conversations where user_id = ${erin.id})`;
  } finally {
    await sql.end();
  }
  await both();
});

Deno.test("REST shows what stands there, and what it writes is read by the same rule", async () => {
  const id = await newConversation(alice, { messages: [{ role: "user", content: "a\0\ud83c\ufdd0" }] });
  const { data } = await alice.client.from("conversation_messages").select("content").eq("conversation_id", id)
    .single().throwOnError();
  assertEquals(data.content, "a\ufdd00000\ufdd0d83c\ufdd0fdd0");

  const written = ["\ufdd00000", "\ufdd0d83c\ufdd0df27", "\ufdd0", "\ufdd0cafe", "\ufdd0D83C", "\ufdd0000"];
  await alice.client.from("conversation_messages")
    .insert(written.map((content) => ({ conversation_id: id, role: "user", content }))).throwOnError();
  const { data: rows } = await send("GET", `/conversations/${id}/messages?after=1`);
  assertEquals(rows.map((row: Any) => row.content), ["\0", "\u{1f327}", ...written.slice(2)]);
  const text = (await exportText(alice.request, "/conversations/export")).join("\n");
  assert(text.includes('"\\u0000"') && text.includes('"\ufdd0cafe"'));
});

Deno.test("a backend sends and reads it like a user", async () => {
  const { body: { id } } = await backend(alice.id)("POST", "/conversations", { body: { messages } });
  assertEquals(asSent((await backend(alice.id)("GET", `/conversations/${id}/messages`)).body.data), messages);
});
