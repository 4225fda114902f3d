import { assertEquals } from "@std/assert";
import { app } from "../../supabase/functions/responses/app.ts";
import { backend, connect, request, signUp, type TestUser, uuid } from "../support/stack.ts";

const alice = await signUp();
const bob = await signUp();

type Json = unknown;
type Item = { [key: string]: Json };

const newId = () => `resp_${uuid().replaceAll("-", "")}`;
const user = (text: string): Item => ({ type: "message", role: "user", content: [{ type: "input_text", text }] });
const assistant = (text: string): Item => ({
  id: `msg_${uuid().replaceAll("-", "")}`,
  type: "message",
  status: "completed",
  role: "assistant",
  content: [{ type: "output_text", text, annotations: [], logprobs: [] }],
});
const about = { model: "gpt-5", provider: "openai" };

/** Stores a turn and returns its id and items. */
async function put(
  who: TestUser,
  previous: string | null,
  text: string,
  id = newId(),
): Promise<{ id: string; items: Item[]; conversation: string }> {
  const items = [user(text), assistant(`re: ${text}`)];
  const { status, body } = await who.request("PUT", `/responses/${id}`, {
    body: { previous_response_id: previous, input: [items[0]], output: [items[1]], ...about },
  });
  assertEquals(status, 201, JSON.stringify(body));
  return { id, items, conversation: body.conversation_id };
}

const itemsOf = async (who: TestUser, id: string): Promise<Item[]> =>
  (await who.request("GET", `/responses/${id}`)).body.input_items;

/** Everything the Responses API documents, and what it may document tomorrow. */
const EVERY_ITEM: Item[] = [
  { role: "user", content: "easy" },
  { role: "developer", content: [{ type: "input_text", text: "Be kind." }] },
  {
    type: "message",
    role: "user",
    content: [
      { type: "input_text", text: "What is this?" },
      { type: "input_image", image_url: "data:image/png;base64,iVBORw0KGgo=", detail: "high" },
      { type: "input_file", filename: "a.pdf", file_data: "data:application/pdf;base64,JVBERi0=" },
      { type: "input_audio", input_audio: { data: "UklGRg==", format: "wav" } },
    ],
  },
  assistant("A pixel. Ça va 🧵?"),
  {
    id: "msg_c",
    type: "message",
    role: "assistant",
    status: "incomplete",
    phase: "commentary",
    content: [
      {
        type: "output_text",
        text: "cited",
        annotations: [{ type: "url_citation", start_index: 0, end_index: 5, url: "https://example.com", title: "E" }],
        logprobs: [{ token: "cited", logprob: -0.25, bytes: [99], top_logprobs: [] }],
      },
    ],
  },
  {
    id: "msg_r",
    type: "message",
    role: "assistant",
    status: "completed",
    content: [{ type: "refusal", refusal: "No." }],
  },
  {
    id: "rs_1",
    type: "reasoning",
    summary: [{ type: "summary_text", text: "Thinking." }],
    content: [{ type: "reasoning_text", text: "Hm." }],
    encrypted_content: "gAAAAABo",
    status: null,
  },
  { id: "fc_1", type: "function_call", call_id: "call_1", name: "f", arguments: '{"a": 1}', status: "completed" },
  { type: "function_call", call_id: "call_2", name: "g", arguments: "" },
  { type: "function_call_output", call_id: "call_1", output: "42" },
  {
    type: "function_call_output",
    call_id: "call_2",
    output: [{ type: "input_text", text: "see" }, { type: "input_image", image_url: "https://example.com/a.png" }],
  },
  {
    id: "fs_1",
    type: "file_search_call",
    status: "completed",
    queries: ["q"],
    results: [{ file_id: "f", score: 0.5 }],
  },
  { id: "ws_1", type: "web_search_call", status: "completed", action: { type: "search", query: "q", sources: [] } },
  {
    id: "cu_1",
    type: "computer_call",
    call_id: "call_3",
    status: "completed",
    action: { type: "click", button: "left", x: 1, y: 2.5 },
    pending_safety_checks: [{ id: "sc", code: "malicious", message: null }],
  },
  {
    type: "computer_call_output",
    call_id: "call_3",
    output: { type: "computer_screenshot", image_url: "data:image/png;base64,AA==" },
    acknowledged_safety_checks: [],
  },
  { id: "mcpl_1", type: "mcp_list_tools", server_label: "s", tools: [{ name: "t", input_schema: { type: "object" } }] },
  { id: "mcpr_1", type: "mcp_approval_request", server_label: "s", name: "t", arguments: "{}" },
  { type: "mcp_approval_response", approval_request_id: "mcpr_1", approve: true, reason: null },
  { id: "mcp_1", type: "mcp_call", server_label: "s", name: "t", arguments: "{}", output: "o", error: null },
  { id: "ctc_1", type: "custom_tool_call", call_id: "call_4", name: "t", input: "raw", status: "completed" },
  { type: "custom_tool_call_output", call_id: "call_4", output: "done" },
  { id: "ci_1", type: "code_interpreter_call", status: "completed", code: "1", container_id: "c", outputs: [] },
  { id: "ig_1", type: "image_generation_call", status: "completed", result: "iVBORw0KGgo=" },
  {
    id: "ls_1",
    type: "local_shell_call",
    call_id: "call_5",
    status: "completed",
    action: { type: "exec", command: ["ls"], env: {} },
  },
  { type: "local_shell_call_output", id: "call_5", output: "{}" },
  { type: "item_reference", id: "rs_1" },
  { type: "from_next_year", nested: { deep: [1, { null: null }, "\u{1F9F5}", 1e-7] } },
  { id: "rs_1", type: "reasoning", summary: [], note: "an id that is taken" },
  {},
];

Deno.test("every type of item comes back as it came, in order", async () => {
  const id = newId();
  const { status } = await alice.request("PUT", `/responses/${id}`, {
    body: { input: EVERY_ITEM.slice(0, 3), output: EVERY_ITEM.slice(3), ...about },
  });
  assertEquals(status, 201);
  const { body } = await alice.request("GET", `/responses/${id}`);
  assertEquals(body.input_items, EVERY_ITEM);

  // And the same again on top of it: the ids are taken now, the items are not changed by that.
  const next = newId();
  await alice.request("PUT", `/responses/${next}`, {
    body: { previous_response_id: id, input: EVERY_ITEM, output: [], ...about },
  });
  assertEquals(await itemsOf(alice, next), [...EVERY_ITEM, ...EVERY_ITEM]);
});

Deno.test("a response has the documented shape, created with 201", async () => {
  const id = newId();
  const sent = { input: "Hello", output: [assistant("Hi")], ...about };
  const created = await alice.request("PUT", `/responses/${id}`, { body: sent });
  const { conversation_id, created_at, updated_at } = created.body;
  assertEquals([created.status, created.body], [201, {
    response_id: id,
    previous_response_id: null,
    conversation_id,
    ...about,
    created_at,
    updated_at,
  }]);
  assertEquals(Math.abs(created_at - Date.now() / 1000) < 60, true);
  const { status, body } = await alice.request("GET", `/responses/${id}`);
  // A string is one user message.
  assertEquals([status, body], [200, { ...created.body, input_items: [user("Hello"), sent.output[0]] }]);
});

Deno.test("a response that is stored is a conversation like any other", async () => {
  const first = await put(alice, null, "Where do capybaras swim?");
  const second = await put(alice, first.id, "And otters?");
  assertEquals(second.conversation, first.conversation);
  const listed = await alice.request("GET", "/conversations?limit=1000");
  assertEquals(
    listed.body.data.filter((c: Item) => c.id === first.conversation).map((
      c: Item,
    ) => [c.title, c.last_sequence_order]),
    [[null, 4]],
  );
  const { body } = await alice.request("GET", `/conversations/${first.conversation}/messages`);
  assertEquals(body.data.map((m: Item) => [m.role, m.content, m.item_id]), [
    ["user", "Where do capybaras swim?", null],
    ["assistant", "re: Where do capybaras swim?", first.items[1].id],
    ["user", "And otters?", null],
    ["assistant", "re: And otters?", second.items[1].id],
  ]);
  const found = await alice.request("GET", "/conversations/search?q=capybaras%20swim");
  assertEquals(found.body.data.some((hit: Item) => hit.conversation_id === first.conversation), true);
  const context = await alice.request("GET", `/conversations/${first.conversation}/context`);
  assertEquals(context.body.messages.map((m: Item) => [m.role, m.item]).at(-1), ["assistant", undefined]);
});

Deno.test("another child of one parent forks: both are right, and nothing is copied", async () => {
  const root = await put(alice, null, "root");
  const left = await put(alice, root.id, "left");
  const right = await put(alice, root.id, "right");
  const far = await put(alice, right.id, "far");
  assertEquals([left.conversation, right.conversation === root.conversation, far.conversation], [
    root.conversation,
    false,
    right.conversation,
  ]);
  assertEquals(await itemsOf(alice, left.id), [...root.items, ...left.items]);
  assertEquals(await itemsOf(alice, far.id), [...root.items, ...right.items, ...far.items]);
  const sql = connect();
  const [{ n }] = await sql`
    select count(*)::int as n from conversation_messages where conversation_id in (${root.conversation}, ${right.conversation})`;
  await sql.end();
  assertEquals(n, 8);
});

Deno.test("twenty children of one parent at once are twenty right histories", async () => {
  const root = await put(alice, null, "root");
  const children = await Promise.all(Array.from({ length: 20 }, (_, i) => put(alice, root.id, `child ${i}`)));
  for (const child of children) assertEquals(await itemsOf(alice, child.id), [...root.items, ...child.items]);
  const inPlace = children.filter(({ conversation }) => conversation === root.conversation);
  assertEquals(inPlace.length, 1, "one continues, the others fork");
  assertEquals(new Set(children.map(({ conversation }) => conversation)).size, 20);
});

Deno.test("the same PUT again is a replay, also twenty at once", async () => {
  const root = await put(alice, null, "root");
  const id = newId();
  const body = { previous_response_id: root.id, input: "again", output: [assistant("once")], ...about };
  const answers = await Promise.all(
    Array.from({ length: 20 }, () => alice.request("PUT", `/responses/${id}`, { body })),
  );
  assertEquals(answers.map(({ status }) => status).sort(), [...Array(19).fill(200), 201]);
  assertEquals(answers.filter(({ headers }) => headers.get("idempotent-replayed") === "true").length, 19);
  for (const answer of answers) assertEquals(answer.body, answers[0].body);
  // A string and the item it stands for are the same input.
  const item = await alice.request("PUT", `/responses/${id}`, { body: { ...body, input: [user("again")] } });
  assertEquals([item.status, item.headers.get("idempotent-replayed")], [200, "true"]);
  assertEquals((await itemsOf(alice, id)).length, 4);
});

Deno.test("another body under the same id replaces the response; its children keep what they had", async () => {
  const root = await put(alice, null, "root");
  const old = await put(alice, root.id, "old");
  const child = await put(alice, old.id, "child");
  const body = { previous_response_id: root.id, input: "new", output: [assistant("new")], model: "m", provider: "p" };
  const replaced = await alice.request("PUT", `/responses/${old.id}`, { body });
  assertEquals([replaced.status, replaced.headers.get("idempotent-replayed"), replaced.body.model], [200, null, "m"]);
  assertEquals(await itemsOf(alice, old.id), [...root.items, user("new"), body.output[0]]);
  assertEquals(await itemsOf(alice, child.id), [...root.items, ...old.items, ...child.items]);
  const again = await alice.request("PUT", `/responses/${old.id}`, { body });
  assertEquals([again.status, again.headers.get("idempotent-replayed")], [200, "true"]);

  // Who continues it from now on, continues the new one.
  const later = await put(alice, old.id, "later");
  assertEquals(await itemsOf(alice, later.id), [...root.items, user("new"), body.output[0], ...later.items]);
});

Deno.test("deleting a response leaves what others show, and nothing else", async () => {
  const carol = await signUp();
  const root = await put(carol, null, "root");
  const middle = await put(carol, root.id, "middle");
  const leaf = await put(carol, middle.id, "leaf");
  const other = await put(carol, root.id, "other");
  const stored = async () => {
    const sql = connect();
    const [row] = await sql`
      select (select count(*)::int from conversation_messages where user_id = ${carol.id}) as messages,
        (select count(*)::int from conversations where user_id = ${carol.id}) as conversations`;
    await sql.end();
    return [row.messages, row.conversations];
  };
  const remove = async ({ id }: { id: string }) => (await carol.request("DELETE", `/responses/${id}`)).status;
  assertEquals(await stored(), [8, 2]);
  assertEquals(await remove(middle), 204);
  assertEquals(await stored(), [8, 2], "leaf shows it");
  const gone = await carol.request("GET", `/responses/${middle.id}`);
  assertEquals([gone.status, gone.body.code], [404, "response_not_found"]);
  assertEquals(await itemsOf(carol, leaf.id), [...root.items, ...middle.items, ...leaf.items]);
  assertEquals(await remove(leaf), 204);
  assertEquals(await stored(), [4, 2]);
  assertEquals(await remove(root), 204);
  assertEquals(await itemsOf(carol, other.id), [...root.items, ...other.items]);
  assertEquals(await remove(other), 204);
  assertEquals(await stored(), [0, 0]);
  assertEquals(await remove(other), 404);
});

Deno.test("a conversation that somebody made their own outlives its responses, and responses outlive it", async () => {
  const mine = await put(alice, null, "mine");
  await alice.request("PATCH", `/conversations/${mine.conversation}`, { body: { title: "Keep this" } });
  const continued = await put(alice, null, "continued");
  await alice.request("POST", `/conversations/${continued.conversation}/messages`, {
    body: { messages: [{ role: "user", content: "by hand" }] },
  });
  for (const { id, conversation, items } of [mine, continued]) {
    assertEquals((await alice.request("DELETE", `/responses/${id}`)).status, 204);
    const { body } = await alice.request("GET", `/conversations/${conversation}/messages`);
    assertEquals(body.data[1].item_id, items[1].id);
  }

  const kept = await put(alice, null, "kept");
  assertEquals((await alice.request("DELETE", `/conversations/${kept.conversation}`)).status, 204);
  assertEquals(await itemsOf(alice, kept.id), kept.items);
  const next = await put(alice, kept.id, "next");
  assertEquals(await itemsOf(alice, next.id), [...kept.items, ...next.items]);
});

Deno.test("after a message by hand the next response forks: it continues the response, not the conversation", async () => {
  const root = await put(alice, null, "root");
  await alice.request("POST", `/conversations/${root.conversation}/messages`, {
    body: { messages: [{ role: "user", content: "by hand" }] },
  });
  const next = await put(alice, root.id, "next");
  assertEquals(await itemsOf(alice, next.id), [...root.items, ...next.items]);
});

Deno.test("merge answers what a model gets next, and stores nothing", async () => {
  const root = await put(alice, null, "root");
  const merged = await alice.request("POST", `/responses/${root.id}/merge`, { body: { input: "next" } });
  assertEquals([merged.status, merged.body], [200, { input_items: [...root.items, user("next")] }]);
  const items = [{ type: "function_call_output", call_id: "c", output: "1" }];
  const more = await alice.request("POST", `/responses/${root.id}/merge`, { body: { input: items } });
  assertEquals(more.body.input_items, [...root.items, ...items]);
  assertEquals(await itemsOf(alice, root.id), root.items);
});

Deno.test("an unknown previous response is 409: nobody goes on without history", async () => {
  const unknown = newId();
  const id = newId();
  const stored = await alice.request("PUT", `/responses/${id}`, {
    body: { previous_response_id: unknown, input: "x", output: [], ...about },
  });
  assertEquals([stored.status, stored.body.code], [409, "previous_response_not_found"]);
  assertEquals((await alice.request("GET", `/responses/${id}`)).status, 404, "nothing is left of it");
  const merged = await alice.request("POST", `/responses/${unknown}/merge`, { body: { input: "x" } });
  assertEquals([merged.status, merged.body.code], [409, "previous_response_not_found"]);
  const known = await put(alice, null, "control");
  assertEquals((await alice.request("POST", `/responses/${known.id}/merge`, { body: { input: "x" } })).status, 200);
});

Deno.test("another user's id is unknown, and free to use", async () => {
  const hers = await put(alice, null, "hers");
  const foreign = await bob.request("PUT", `/responses/${newId()}`, {
    body: { previous_response_id: hers.id, input: "x", output: [], ...about },
  });
  assertEquals([foreign.status, foreign.body.code], [409, "previous_response_not_found"]);
  for (const method of ["GET", "DELETE"]) {
    const answer = await bob.request(method, `/responses/${hers.id}`);
    assertEquals([answer.status, answer.body.code], [404, "response_not_found"]);
  }
  const his = await put(bob, null, "his", hers.id);
  assertEquals([await itemsOf(alice, hers.id), await itemsOf(bob, hers.id)], [hers.items, his.items]);
});

Deno.test("a backend stores for the user it names, and has to name one", async () => {
  const id = newId();
  const body = { input: "for alice", output: [], ...about };
  assertEquals((await backend(alice.id)("PUT", `/responses/${id}`, { body })).status, 201);
  assertEquals(await itemsOf(alice, id), [user("for alice")]);
  for (const method of ["PUT", "GET", "DELETE"]) {
    const answer = await backend()(method, `/responses/${id}`, method === "PUT" ? { body } : {});
    assertEquals([answer.status, answer.body.code], [400, "user_id_required"]);
  }
  assertEquals((await request("GET", `/responses/${id}`)).status, 401);
});

Deno.test("HEAD says whether a response is there", async () => {
  const { id } = await put(alice, null, "x");
  const there = await alice.request("HEAD", `/responses/${id}`);
  const not = await alice.request("HEAD", `/responses/${newId()}`);
  assertEquals([there.status, there.body, not.status], [200, null, 404]);
});

Deno.test("an id is any text of up to 256 characters", async () => {
  for (const id of ["a", "r".repeat(256), "with space/slash?&#%", "响应🧵"]) {
    const target = `/responses/${encodeURIComponent(id)}`;
    const body = { input: id, output: [], ...about };
    assertEquals((await alice.request("PUT", target, { body })).body.response_id, id);
    assertEquals((await alice.request("GET", target)).body.input_items, [user(id)]);
  }
  const long = await alice.request("GET", `/responses/${"r".repeat(257)}`);
  assertEquals([long.status, long.body.code], [400, "invalid_request"]);
});

Deno.test("what does not fit is refused by name, at the edge and by the RPC itself", async () => {
  const id = newId();
  const valid = { input: "x", output: [], ...about };
  for (
    const [body, path] of [
      [{ ...valid, store: true }, "store"],
      [{ ...valid, input: 1 }, "input"],
      [{ ...valid, input: ["x"] }, "input"],
      [{ ...valid, output: "x" }, "output"],
      [{ ...valid, output: ["x"] }, "output[0]"],
      [{ ...valid, output: undefined }, "output"],
      [{ ...valid, model: undefined }, "model"],
      [{ ...valid, previous_response_id: "" }, "previous_response_id"],
      [{ ...valid, output: Array(1001).fill({}) }, "output"],
    ] as const
  ) {
    const answer = await alice.request("PUT", `/responses/${id}`, { body });
    assertEquals([answer.status, answer.body.code, answer.body.details[0].path], [400, "invalid_request", path]);
    const { error } = await alice.client.rpc("put_response", {
      p_response_id: id,
      p_response: JSON.parse(JSON.stringify(body)),
    });
    // An empty previous id is merely unknown to the database.
    assertEquals(error?.code, path === "previous_response_id" ? "PT409" : "PT400", path);
  }
  const itself = await alice.request("PUT", `/responses/${id}`, { body: { ...valid, previous_response_id: id } });
  assertEquals([itself.status, itself.body.code], [400, "invalid_request"]);
  const { error } = await alice.client.rpc("put_response", { p_response_id: id, p_response: valid });
  assertEquals(error, null, "the control");
});

Deno.test("a response may add nothing, and be the beginning of nothing", async () => {
  const root = await put(alice, null, "root");
  for (const [previous, items] of [[root.id, root.items], [null, []]] as const) {
    const id = newId();
    const { status } = await alice.request("PUT", `/responses/${id}`, {
      body: { previous_response_id: previous, input: [], output: [], ...about },
    });
    assertEquals([status, await itemsOf(alice, id)], [201, items]);
    const child = await put(alice, id, "child");
    assertEquals(await itemsOf(alice, child.id), [...items, ...child.items]);
    for (const one of [id, child.id]) assertEquals((await alice.request("DELETE", `/responses/${one}`)).status, 204);
  }
  assertEquals(await itemsOf(alice, root.id), root.items);
});

Deno.test("the tables take no response past the API", async () => {
  const { id, conversation } = await put(alice, null, "x");
  const table = alice.client.from("conversation_states");
  assertEquals((await table.select("response_id").eq("response_id", id)).data, [{ response_id: id }]);
  const row = { response_id: newId(), user_id: alice.id, conversation_id: conversation, ...about };
  // deno-lint-ignore no-explicit-any -- incomplete on purpose: privileges are checked first
  assertEquals((await table.insert(row as any)).error?.code, "42501");
  assertEquals((await table.update({ model: "x" }).eq("response_id", id)).error?.code, "42501");
  assertEquals((await table.delete().eq("response_id", id)).error?.code, "42501");
});

Deno.test("the static routes win over ids, and wrong verbs are 405", async () => {
  assertEquals((await app.request("/responses/openapi.json")).status, 200);
  const post = await alice.request("POST", `/responses/${newId()}`, { body: {} });
  assertEquals([post.status, post.headers.get("allow")?.split(", ").sort()], [405, ["DELETE", "GET", "HEAD", "PUT"]]);
});

Deno.test("a conversation that somebody has made theirs stays theirs, whatever they change back", async () => {
  const turn = await put(alice, null, "mine");
  const path = `/conversations/${turn.conversation}`;
  await alice.request("PATCH", path, { body: { pinned: true } });
  await alice.request("DELETE", `/responses/${turn.id}`);
  await alice.request("PATCH", path, { body: { pinned: false } });
  const { body: fork } = await alice.request("POST", `${path}/fork`, { body: { at: 1 } });
  await alice.request("DELETE", `/conversations/${fork.id}`);
  const { status, body } = await alice.request("GET", `${path}/messages`);
  assertEquals([status, body.data.length], [200, 2]);
});

Deno.test("of a conversation that nobody made theirs, a fork keeps what it shows, and the rest goes with its response", async () => {
  const turn = await put(alice, null, "shared");
  const { body: fork } = await alice.request("POST", `/conversations/${turn.conversation}/fork`, { body: { at: 1 } });
  await alice.request("DELETE", `/responses/${turn.id}`);
  assertEquals((await alice.request("GET", `/conversations/${turn.conversation}`)).status, 404);
  const { body } = await alice.request("GET", `/conversations/${fork.id}/messages`);
  assertEquals(body.data.map((m: { content: string }) => m.content), ["shared"]);
});

Deno.test("responses of one chain that are replaced and deleted at once do not wait for each other", async () => {
  const chain = [await put(alice, null, "0")];
  for (let n = 1; n < 8; n++) chain.push(await put(alice, chain[n - 1].id, String(n)));
  const answers = await Promise.all(chain.flatMap(({ id }, n) => {
    const body = { previous_response_id: n ? chain[n - 1].id : null, input: `again ${n}`, output: [], ...about };
    return [
      alice.request("PUT", `/responses/${id}`, { body }),
      alice.request("PUT", `/responses/${newId()}`, { body: { ...body, previous_response_id: id } }),
    ];
  }));
  assertEquals(answers.filter(({ status }) => status >= 300).map(({ body }) => body), []);
});

Deno.test("what prints as more than 16 MiB is no answer, however little it takes to store", async () => {
  const id = newId();
  const sql = connect();
  const [{ read }] = await sql.begin(async (tx) => {
    await tx`select set_config('request.jwt.claims', ${
      JSON.stringify({ sub: alice.id, role: "authenticated" })
    }, true)`;
    await tx`set local role authenticated`;
    await tx`
      select public.put_response(${id}, jsonb_build_object('model', 'm', 'provider', 'p', 'output', '[]'::jsonb, 'input', (
        select jsonb_agg(jsonb_build_object('type', 'x', 'n', ('[' || repeat('1e-16383,', 500) || '0]')::jsonb))
        from generate_series(1, 3)
      )))`;
    await tx`savepoint stored`;
    return [{ read: await tx`select public.get_response(${id})`.then(() => "answered", (error) => error.message) }];
  }).catch((error) => [{ read: error.message }]);
  await sql.end();
  assertEquals(read, "history_too_large");
});
