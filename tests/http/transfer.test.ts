// Export and import over HTTP, and `npm run import`.
import { assert, assertEquals, assertMatch, assertNotEquals } from "@std/assert";
import { fileURLToPath } from "node:url";
import { app } from "../../supabase/functions/conversations/app.ts";
import { countCalls } from "../support/calls.ts";
import {
  type Answer,
  apiUrl,
  backend,
  connect,
  newClient,
  newConversation,
  publishableKey,
  secretKey,
  signUp,
  type TestUser,
  uuid,
} from "../support/stack.ts";
import { exportText } from "../support/users.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const sql = connect();
globalThis.addEventListener("unload", () => sql.end());

type Line = Record<string, unknown> & { type: string };
type Message = Record<string, unknown> & { content: string; metadata: Record<string, unknown> };
interface Tree {
  conversation: Record<string, unknown>;
  messages: Message[];
  forks: Tree[];
}

async function exportAll(user: TestUser): Promise<Line[]> {
  return (await exportText(user.request, "/conversations/export")).map((line) => JSON.parse(line));
}

const importLines = (request: TestUser["request"], lines: unknown[]): Promise<Answer> =>
  request("POST", "/conversations/import", {
    body: lines.map((line) => typeof line === "string" ? line : JSON.stringify(line)).join("\n"),
    headers: { "content-type": "application/x-ndjson" },
  });

/** What a file says, but for ids: trees of forks, in an order that the content decides. */
function content(lines: Line[], withAuthors = false): Tree[] {
  const trees = new Map<string, Tree>();
  const roots: Tree[] = [];
  for (const { type, id, parent_id, conversation_id, ...rest } of structuredClone(lines)) {
    if (type === "conversation") {
      const { video_id: _, ...conversation } = rest;
      const tree = { conversation, messages: [], forks: [] };
      trees.set(id as string, tree);
      if (parent_id) assert(trees.has(parent_id as string), "a parent comes before its forks");
      (parent_id ? trees.get(parent_id as string)!.forks : roots).push(tree);
    } else if (type === "message") {
      const message = rest as Message;
      if (!withAuthors) {
        delete message.author;
        delete message.metadata.imported_author;
      }
      trees.get(conversation_id as string)!.messages.push(message);
    }
  }
  const sort = (list: Tree[]): Tree[] =>
    list.map((tree) => ({ ...tree, forks: sort(tree.forks) }))
      .sort((a, b) => JSON.stringify(a) < JSON.stringify(b) ? -1 : 1);
  return sort(roots);
}

const textLine = (content: string, more = {}) => ({ type: "message", role: "user", content, ...more });
const user = (content: string) => ({ role: "user", content });

/** What each living conversation shows, by title. */
async function histories(person: TestUser): Promise<Record<string, unknown>> {
  const { body: { data } } = await person.request("GET", "/conversations?limit=1000&archived=any");
  const shown: Record<string, unknown> = {};
  for (const { id, title, updated_at } of data) {
    const { body } = await person.request("GET", `/conversations/${id}/messages?limit=1000`);
    const messages = body.data.map((m: Message) => [m.sequence_order, m.content, m.created_at]);
    shown[title] = [updated_at, messages];
  }
  return shown;
}

/** A lineage with everything in it that an export can lose. */
async function furnish(person: TestUser): Promise<void> {
  const post = async (path: string, body: unknown) => {
    const answer = await person.request("POST", `/conversations${path}`, { body });
    assertEquals(answer.status, 201, JSON.stringify(answer.body));
    return answer.body;
  };
  const fork = async (id: string, at: number, title: string) => {
    const forked = await post(`/${id}/fork`, { at });
    await person.request("PATCH", `/conversations/${forked.id}`, { body: { title } });
    await post(`/${forked.id}/messages`, { messages: [user(`${title} 1`), user(`${title} 2`), user(`${title} 3`)] });
    return forked.id as string;
  };

  const odd = JSON.parse('{"":1,"a b":{"__proto__":[null,{"ключ":"\\u2028 \\\\ \\" 🧵"}]},"x":0.1,"n":null}');
  const { data: video } = await person.client.from("videos").insert({ title: "v" }).select().single();
  const trunk = await newConversation(person, {
    title: "trunk",
    video_id: video!.id,
    metadata: odd,
    expires_at: "2099-01-01T00:00:00Z",
    messages: [
      { role: "system", content: "Be brief.", metadata: odd },
      { role: "user", content: null, parts: [{ type: "image_url", image_url: { url: "x" } }], item_id: "client-1" },
      { role: "assistant", content: null, tool_calls: [{ id: "c1", type: "function" }], model: "m", usage: { t: 1 } },
      { role: "tool", tool_call_id: "c1", name: "f", content: "line\nline", token_count: 7, status: "incomplete" },
      ...Array.from({ length: 6 }, (_, i) => user(`trunk ${i}`)),
    ],
  });
  await person.request("PATCH", `/conversations/${trunk}`, {
    body: { summary: "So far.", pinned: true, archived: true },
  });
  await backend(person.id)("POST", `/conversations/${trunk}/messages`, { body: { messages: [user("by service")] } });
  const { error } = await person.client.from("conversation_messages")
    .insert({
      conversation_id: trunk,
      type: "reasoning",
      item: { type: "reasoning", summary: [] },
      source: { dialect: "responses", rest: odd },
      item_id: "rs_1",
    });
  assertEquals(error, null);

  const first = await fork(trunk, 8, "fork");
  const second = await fork(first, 10, "fork of fork");
  await fork(second, 12, "fork of fork of fork");
  await fork(trunk, 4, "other fork");
  // Two tombstones above each other, with one living fork; and one that goes altogether.
  const gone = await newConversation(person, { title: "gone", messages: [user("g1"), user("g2"), user("secret")] });
  const goneToo = await fork(gone, 2, "gone too");
  await fork(goneToo, 4, "survivor");
  for (const id of [gone, goneToo]) await person.request("DELETE", `/conversations/${id}`);
  const alone = await newConversation(person, { messages: [user("nothing of this")] });
  await person.request("DELETE", `/conversations/${alone}`);
  // Gaps: in a shared prefix, and at an end.
  for (const [id, place] of [[trunk, 5], [second, 12]] as const) {
    const { body } = await person.request("GET", `/conversations/${id}/messages?after=${place - 1}&limit=1`);
    await person.request("DELETE", `/conversations/${id}/messages/${body.data[0].id}`);
  }
  await sql`
    update conversation_messages set created_at = '2001-02-03T04:05:06.789012Z'
    where conversation_id = ${trunk} and sequence_order <= 3`;
  await sql`update conversations set created_at = '2001-02-03T04:05:06Z', updated_at = '2002-02-02' where id = ${trunk}`;
}

Deno.test("export → import into another account → export: the same content, and the same again", async () => {
  const [alice, bob, carol] = [await signUp(), await signUp(), await signUp()];
  await furnish(alice);
  const exported = await exportAll(alice);
  assertEquals(exported.at(-1), { type: "end", conversations: 6, tombstones: 2, messages: 29 });
  assert(!JSON.stringify(exported).includes("secret") && !JSON.stringify(exported).includes("nothing of this"));
  const tombstones = exported.filter((line) => line.deleted);
  assertEquals(tombstones.flatMap((line) => Object.keys(line)).filter((key) => key === "title"), []);

  const { status, body: report } = await importLines(bob.request, exported);
  assertEquals(status, 200);
  assertEquals(
    [report.imported, report.failed, report.skipped, report.messages],
    [8, 0, 0, 29],
    JSON.stringify(report.conversations),
  );
  const noted = report.conversations.filter((entry: { notes: string[] }) => entry.notes.length > 0);
  const trunk = exported.find((line) => line.title === "trunk")!;
  assert(noted.some((entry: { id: string }) => entry.id === trunk.id), "the video that is not bob's is told");

  const again = await exportAll(bob);
  assertEquals(content(again), content(exported));
  assertEquals(await histories(bob), await histories(alice));
  const ids = (lines: Line[]) => lines.map((line) => line.id).filter(Boolean);
  assertEquals(ids(again).filter((id) => ids(exported).includes(id)), []);
  // The service's message is bob's now, and says whose it was.
  const copied = again.find((line) => line.content === "by service")!;
  assertEquals([copied.author, copied.metadata], ["user", { imported_author: "service" }]);

  // The second time nothing changes, notes included.
  await importLines(carol.request, again);
  assertEquals(content(await exportAll(carol), true), content(again, true));
  assertEquals((await sql`select from private.imports where user_id in (${bob.id}, ${carol.id})`).length, 0);

  // What was shared is shared, not copied: deleting all that lives leaves nothing.
  const { body: { data } } = await bob.request("GET", "/conversations?limit=1000&archived=any");
  for (const { id } of data) assertEquals((await bob.request("DELETE", `/conversations/${id}`)).status, 204);
  assertEquals((await sql`select from conversations where user_id = ${bob.id}`).length, 0);
});

Deno.test("2,500 messages out, 2,500 in, with the row cap at 1,000", async () => {
  const [alice, bob] = [await signUp(), await signUp()];
  const id = await newConversation(alice, { title: "long" });
  for (let i = 0; i < 3; i++) {
    const messages = Array.from({ length: i < 2 ? 1000 : 500 }, (_, j) => user(`m${i * 1000 + j + 1}`));
    await alice.request("POST", `/conversations/${id}/messages`, { body: { messages } });
  }
  // A page of its own for each that fills it.
  await newConversation(alice, { title: "wide", messages: [user("x".repeat(1_500_000)), user("y".repeat(1_500_000))] });
  const exported = await exportAll(alice);
  assertEquals(exported.at(-1), { type: "end", conversations: 2, tombstones: 0, messages: 2502 });
  const long = exported.filter((line) => line.conversation_id === id);
  assertEquals(long.map((line) => line.content), Array.from({ length: 2500 }, (_, i) => `m${i + 1}`));

  const { body } = await importLines(bob.request, exported.slice(0, -1));
  assertEquals([body.imported, body.messages], [2, 2502]);
  assertEquals(content(await exportAll(bob)), content(exported));
});

Deno.test("the export comes in pieces, and an error on the way is its last line", async () => {
  const alice = await signUp();
  await newConversation(alice, { messages: Array.from({ length: 1000 }, () => user("x")) });
  const fails = new Set<number>();
  await using counted = await countCalls(() => {
    if (!fails.has(calls.length)) return;
    return Response.json({ code: "57014", message: "canceling statement" }, { status: 500 });
  });
  const { calls } = counted;
  const log = console.error;
  console.error = () => {};
  const start = () => app.request("/conversations/export", { headers: { apikey: secretKey, "x-user-id": alice.id } });
  try {
    // Nobody reads: nothing but the first page is fetched.
    const idle = await start();
    await new Promise((resolve) => setTimeout(resolve, 100));
    assertEquals([idle.status, calls.length], [200, 1]);
    const reader = idle.body!.getReader();
    assert((await reader.read()).value!.length > 1000);
    assertEquals(calls.length, 1);
    await reader.cancel();

    calls.length = 0;
    fails.add(2);
    const broken = (await (await start()).text()).trimEnd().split("\n").map((line) => JSON.parse(line));
    assertEquals(broken.length, 1001);
    assertEquals([broken.at(-1).type, broken.at(-1).error.code], ["error", "timeout"]);
    assertMatch(broken.at(-1).error.request_id, /./);

    calls.length = 0;
    fails.add(1);
    assertEquals((await start()).status, 503);

    // A file that ends so does not import what it broke off in.
    const bob = await signUp();
    const { body } = await importLines(bob.request, broken);
    assertEquals([body.imported, body.failed, body.conversations[0].error.line], [0, 1, 1001]);
  } finally {
    console.error = log;
  }
});

Deno.test("a large export comes in pieces, and the loop of the docs makes one file of them that imports", async () => {
  const [alice, bob] = [await signUp(), await signUp()];
  const text = "x".repeat(3_000_000);
  const ids = [await newConversation(alice, { title: "a" }), await newConversation(alice, { title: "b" })];
  for (let n = 0; n < 4; n++) {
    const body = { messages: [user(`${n} ${text}`), user("and a short one")] };
    assertEquals((await alice.request("POST", `/conversations/${ids[n % 2]}/messages`, { body })).status, 201);
  }
  const piece = async (cursor = "") => {
    const { status, body } = await alice.request("GET", `/conversations/export${cursor && `?cursor=${cursor}`}`);
    return { status, text: body, last: typeof body === "string" && JSON.parse(body.trimEnd().split("\n").at(-1)!) };
  };
  const first = await piece();
  assertEquals([first.status, first.last.type], [200, "next"]);
  assert(first.text.length > 8_000_000 && first.text.length < 12_000_000, `${first.text.length}`);
  const second = await piece(first.last.cursor);
  assertEquals(second.last, { type: "end", conversations: 2, tombstones: 0, messages: 8 });
  assertEquals((await piece(first.last.cursor)).text, second.text, "a piece that was lost comes again");

  // Somebody else's cursor reads nobody's rows, and what is no cursor is refused.
  const foreign = await bob.request("GET", `/conversations/export?cursor=${first.last.cursor}`);
  assert(!foreign.body.includes("xxx"));
  for (
    const cursor of ["", "x", "abc!", btoa("{}").replaceAll("=", ""), btoa('{"place":{"root_id":"x"},"counts":{}}')]
  ) {
    const refused = await alice.request("GET", `/conversations/export?cursor=${cursor.replaceAll("=", "")}`);
    assertEquals([refused.status, refused.body.code], [400, "invalid_request"], cursor);
  }

  const docs = await Deno.readTextFile(`${root}/docs/conversations.md`);
  const loop = docs.match(/^export_to\(\) \{$.*?^\}$/ms)![0];
  const dir = await Deno.makeTempDir();
  try {
    const { success, stderr } = await new Deno.Command("sh", {
      args: ["-c", `${loop}\nexport_to export.ndjson conversations/export -H "Authorization: Bearer $TOKEN"`],
      cwd: dir,
      env: { API_URL: apiUrl, TOKEN: alice.token },
    }).output();
    assert(success, new TextDecoder().decode(stderr));
    assertEquals([...Deno.readDirSync(dir)].map(({ name }) => name), ["export.ndjson"]);
    const whole = await Deno.readTextFile(`${dir}/export.ndjson`);
    const content = (text: string) => text.replace(/^\{"type":"next".*\n/gm, ""); // a cursor says when it was asked for
    assertEquals(content(whole) === content(first.text) + second.text, true);
    const imported = await npmImport(bob, `${dir}/export.ndjson`);
    assertEquals([imported.code, imported.out.split(";")[0]], [0, "Imported 2 conversations with 8 messages"]);
    assertEquals(Object.keys(await histories(bob)), ["b", "a"]);

    // The first piece alone is not taken for the whole.
    await Deno.writeTextFile(`${dir}/first.ndjson`, first.text);
    const cut = await npmImport(await signUp(), `${dir}/first.ndjson`);
    assertEquals(cut.code, 1);
    assertMatch(cut.progress, /next piece of the export begins/);
    const failed = await new Deno.Command("sh", {
      args: ["-c", `${loop}\nexport_to export.ndjson conversations/export -H "Authorization: Bearer nobody"`],
      cwd: dir,
      env: { API_URL: apiUrl },
    }).output();
    assert(!failed.success, "the loop says that it has failed");
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("what is written while an export runs does not tear it", async () => {
  const alice = await signUp();
  const id = await newConversation(alice, { messages: Array.from({ length: 1000 }, (_, i) => user(`${i}`)) });
  // deno-lint-ignore no-explicit-any -- one jsonb value
  const exportPage = async (p_cursor = {}): Promise<any> => (await alice.client.rpc("export_page", { p_cursor })).data;
  const page = await exportPage();
  assertEquals(page.lines.split("\n").length, 1000);
  await alice.request("POST", `/conversations/${id}/messages`, { body: { messages: [user("later")] } });
  await alice.request("POST", `/conversations/${id}/fork`, { body: { at: 1001 } });
  await newConversation(alice, { title: "later" });
  const rest = await exportPage(page.next);
  assertEquals(rest.lines.split("\n").map((line: string) => JSON.parse(line).content), ["999"]);
  assertEquals(rest.next, null);
});

Deno.test("a broken line is reported with its number and imports nothing of its conversation", async () => {
  const alice = await signUp();
  const { status, body } = await importLines(alice.request, [
    { type: "conversation", id: "a", title: "a" },
    textLine("1"),
    { type: "conversation", id: "b", title: "b" },
    textLine("1"),
    '{"type":"message","role":"user","content":"cut',
    textLine("3"),
    { type: "conversation", id: "c", parent_id: "b", fork_sequence: 1, title: "c" },
    { type: "conversation", id: "d", title: "d" },
    textLine("1", { colour: "red" }),
    { type: "conversation", id: "e", title: "e", last_sequence_order: 9 },
    textLine("2", { sequence_order: 4, item_id: "i" }),
    { type: "conversation", id: "f", title: "f" },
    textLine("1", { item_id: "i" }),
    textLine("2", { item_id: "i" }),
    { type: "conversation", id: "g", title: "g", parent_id: "e", fork_sequence: 10 },
    { type: "conversation", id: "h", title: "h", created_at: "2999-01-01T00:00:00Z" },
    { type: "conversation", id: "i", title: "i", parent_id: "e", fork_sequence: 5 },
    textLine("again", { sequence_order: 6, item_id: "i" }),
  ]);
  assertEquals(status, 200);
  const outcome = body.conversations.map((entry: Record<string, never>) => [
    entry.line,
    entry.id,
    entry.status,
    (entry.error as { code?: string } | undefined)?.code,
    (entry.error as { line?: number } | undefined)?.line,
  ]);
  assertEquals(outcome, [
    [1, "a", "imported", undefined, undefined],
    [3, "b", "failed", "invalid_json", 5],
    [7, "c", "failed", "conversation_not_found", undefined],
    [8, "d", "failed", "invalid_request", 9],
    [10, "e", "imported", undefined, undefined],
    [12, "f", "failed", "item_conflict", undefined],
    [15, "g", "failed", "invalid_request", undefined],
    [16, "h", "failed", "invalid_request", undefined],
    [17, "i", "failed", "item_conflict", undefined],
  ]);
  assertEquals(body.conversations[3].error.details, [{ path: "colour", message: "Unknown field." }]);
  const rows = await sql`select title, last_sequence_order from conversations where user_id = ${alice.id} order by 1`;
  assertEquals(rows.map((row) => [row.title, row.last_sequence_order]), [["a", 1], ["e", 9]]);
  // The number goes on where it was.
  const { new_id } = body.conversations[4];
  const appended = await alice.request("POST", `/conversations/${new_id}/messages`, {
    body: { messages: [user("x")] },
  });
  assertEquals(appended.body.last_sequence_order, 10);
});

Deno.test("the author is who imports, whatever the file says", async () => {
  const alice = await signUp();
  const lines = [
    { type: "conversation", id: "a" },
    textLine("s", { author: "service" }),
    textLine("u", { author: "user" }),
    textLine("noted", { author: "service", metadata: { imported_author: "mine" } }),
    textLine("none"),
  ];
  const load = async (request: TestUser["request"]) => {
    const { body } = await importLines(request, lines);
    const { body: page } = await request("GET", `/conversations/${body.conversations[0].new_id}/messages`);
    return page.data.map((m: Message) => [m.content, m.author, m.metadata]);
  };
  assertEquals(await load(alice.request), [
    ["s", "user", { imported_author: "service" }],
    ["u", "user", {}],
    ["noted", "user", { imported_author: "mine" }],
    ["none", "user", {}],
  ]);
  assertEquals((await load(backend(alice.id))).map(([, author]: string[]) => author), [
    "service",
    "service",
    "service",
    "service",
  ]);
  // Directly, past the edge, as well.
  const { data, error } = await alice.client.rpc("import_conversation", {
    p_conversation: {},
    p_messages: [{ sequence_order: 1, role: "user", content: "x", author: "service" }],
  });
  assertEquals(error, null);
  const [row] = await sql`select author from conversation_messages where conversation_id = ${
    (data as { id: string }).id
  }`;
  assertEquals(row.author, "user");
  for (const more of [{ user_id: alice.id }, { id: uuid() }, { conversation_id: uuid() }, { sequence_order: "1" }]) {
    const refused = await alice.client.rpc("import_conversation", {
      p_conversation: {},
      p_messages: [{ sequence_order: 1, role: "user", content: "x", ...more }],
    });
    assertEquals(refused.error?.message, "invalid_request", JSON.stringify(more));
  }
});

Deno.test("somebody else's conversation is no parent and cannot be continued", async () => {
  const [alice, mallory] = [await signUp(), await signUp()];
  const secret = await newConversation(alice, { messages: [user("secret")] });
  const fork = { type: "conversation", id: "f", parent_id: "p", fork_sequence: 1 };
  const foreign = async (request: TestUser["request"], lines: unknown[]) => {
    const { status, body } = await importLines(request, lines);
    return [status, body.conversations[0].status, body.conversations[0].error?.code];
  };
  const refused = [200, "failed", "conversation_not_found"];
  assertEquals(await foreign(mallory.request, [{ type: "ids", map: { p: secret } }, fork]), refused);
  assertEquals(await foreign(backend(mallory.id), [{ type: "ids", map: { p: secret } }, fork]), refused);
  assertEquals(await foreign(mallory.request, [{ ...fork, parent_id: secret }]), refused);
  assertEquals(
    await foreign(alice.request, [{ ...fork, parent_id: secret }]),
    refused,
    "only the file's own ids count",
  );
  assertEquals(await foreign(alice.request, [{ type: "ids", map: { p: secret } }, fork]), [200, "imported", undefined]);

  // Not even one's own, once it is whole.
  const continuation = { type: "conversation", continues: secret };
  for (const request of [alice.request, mallory.request, backend(mallory.id)]) {
    assertEquals(await foreign(request, [continuation, textLine("x", { sequence_order: 9 })]), refused);
  }
  const part = await importLines(alice.request, [{ type: "ids", more: true }, { type: "conversation", more: true }]);
  const [{ new_id }] = part.body.conversations;
  assertEquals(await foreign(mallory.request, [{ type: "conversation", continues: new_id }]), refused);
  assertEquals(await foreign(mallory.request, [{ type: "ids", map: { p: new_id } }, fork]), refused);
  await importLines(mallory.request, [{ type: "ids", map: { p: new_id, q: secret } }]);
  assertEquals(await foreign(alice.request, [{ type: "conversation", continues: new_id }]), [
    200,
    "imported",
    undefined,
  ]);
  assertEquals((await alice.request("GET", `/conversations/${secret}`)).status, 200);
});

Deno.test("parts stay hidden until the last, and what is never completed or shared goes", async () => {
  const alice = await signUp();
  const head = { type: "conversation", id: "big", title: "big", more: true };
  const first = await importLines(alice.request, [{ type: "ids", more: true }, head, textLine("1"), textLine("2")]);
  const [{ new_id }] = first.body.conversations;
  const list = async () =>
    (await alice.request("GET", "/conversations")).body.data.map((c: { title: string }) => c.title);
  assertEquals(await list(), []);
  assertEquals((await exportAll(alice)).length, 1, "and is not exported");
  assertEquals((await alice.request("GET", `/conversations/${new_id}`)).status, 404);
  // A part that overlaps changes nothing, and can be sent again.
  const next = (sequence_order: number) => [
    { type: "ids", more: true },
    { type: "conversation", id: "big", continues: new_id },
    textLine("3", { sequence_order }),
  ];
  assertEquals((await importLines(alice.request, next(2))).body.failed, 1);
  assertEquals((await importLines(alice.request, next(3))).body.imported, 1);
  assertEquals(await list(), ["big"]);
  const { body } = await alice.request("GET", `/conversations/${new_id}/messages`);
  assertEquals(body.data.map((m: Message) => m.content), ["1", "2", "3"]);

  // A tombstone lives by its forks: none in the file, or a broken one.
  const tombstone = { type: "conversation", id: "t", deleted: true, last_sequence_order: 5 };
  const fork = { type: "conversation", id: "f", title: "f", parent_id: "t", fork_sequence: 2 };
  for (const forks of [[], [{ ...fork, colour: "red" }]]) {
    const { body } = await importLines(alice.request, [tombstone, textLine("1"), textLine("2"), ...forks]);
    assertEquals([body.conversations[0].status, body.conversations[0].new_id], ["skipped", null]);
  }
  // Its fork comes with the next request: the first says that there is one.
  const begun = await importLines(alice.request, [
    { type: "ids", more: true },
    tombstone,
    textLine("1"),
    textLine("2"),
    textLine("3"),
  ]);
  const map = { t: begun.body.conversations[0].new_id };
  assertEquals((await importLines(alice.request, [{ type: "ids", map }, fork])).body.imported, 1);
  // What no fork shows is not kept.
  const kept = await sql`select sequence_order from conversation_messages where conversation_id = ${map.t} order by 1`;
  assertEquals(kept.map((row) => row.sequence_order), [1, 2]);

  // An import that broke off is cleared by a later one, a day after.
  await importLines(alice.request, [{ type: "ids", more: true }, tombstone, head, textLine("1")]);
  const pending = () => sql`select from private.imports where user_id = ${alice.id}`;
  assertEquals((await pending()).length, 2);
  await importLines(alice.request, [tombstone]);
  assertEquals((await pending()).length, 2);
  await sql`update private.imports set created_at = now() - interval '25 hours' where user_id = ${alice.id}`;
  await importLines(alice.request, [tombstone]);
  assertEquals((await pending()).length, 0);
  assertEquals(
    (await sql`select title from conversations where user_id = ${alice.id} and title is not null`).length,
    2,
  );
});

Deno.test("the request itself: content types, size, verbs, and for whom a backend acts", async () => {
  const alice = await signUp();
  const send = (body: string, type?: string) =>
    alice.request("POST", "/conversations/import", {
      body,
      headers: { "content-type": type ?? "application/x-ndjson" },
    });
  const counts = { imported: 0, grown: 0, unchanged: 0, failed: 0, skipped: 0, messages: 0 };
  const empty = { ...counts, left_out: {}, conversations: [] };
  assertEquals([(await send("")).body, (await send("[]", "application/json")).body], [empty, empty]);
  assertEquals((await send("x", "text/plain")).body.code, "unsupported_media_type");
  assertEquals((await send("{}", "application/json")).body.code, "invalid_request");
  assertEquals((await send("[", "application/json")).body.code, "invalid_json");
  assertEquals((await send("x".repeat(5 * 1024 * 1024))).body.code, "payload_too_large");
  const many = (n: number) => Array.from({ length: n }, () => '{"type":"conversation"}').join("\n");
  assertEquals((await send(many(101))).body.code, "invalid_request");
  assertEquals((await send(many(100))).body.imported, 100);
  for (
    const [method, path, allow] of [["POST", "export", "GET, HEAD"], ["GET", "import", "POST"], [
      "DELETE",
      "export",
      "GET, HEAD",
    ]]
  ) {
    const refused = await alice.request(method, `/conversations/${path}`);
    assertEquals([refused.status, refused.headers.get("allow")], [405, allow]);
  }
  assertEquals((await alice.request("GET", "/conversations/export?video_id=1")).status, 400);

  const nobody = await backend()("GET", "/conversations/export");
  assertEquals([nobody.status, nobody.body.code], [400, "user_id_required"]);
  const line = { type: "conversation", title: "by the backend" };
  assertEquals((await importLines(backend(), [line])).body.code, "user_id_required");
  assertEquals((await importLines(backend(uuid()), [line])).body.code, "user_not_found");
  assertEquals((await importLines(backend(alice.id), [line])).body.imported, 1);
  const exported = await backend(alice.id)("GET", "/conversations/export");
  assert(exported.body.includes("by the backend"));
});

// ---- ChatGPT ----------------------------------------------------------------------------------------------------------

const chatGptExport = JSON.parse(
  await Deno.readTextFile(new URL("../support/chatgpt-conversations.json", import.meta.url)),
);

Deno.test("a ChatGPT export becomes conversations and forks, times and models kept", async () => {
  const alice = await signUp();
  const { status, body } = await alice.request("POST", "/conversations/import", { body: chatGptExport });
  assertEquals([status, body.imported, body.failed, body.skipped], [200, 3, 1, 0]);
  const [trip, edited, second, broken] = body.conversations;
  assertEquals([trip.line, trip.id, trip.messages, trip.notes], [1, "11111111-aaaa", 5, [
    "1 branches became forks.",
    "Left out 2 hidden or empty messages.",
  ]]);
  assertEquals([edited.id, edited.messages, second.line, second.messages], ["11111111-aaaa#1", 2, 2, 2]);
  assertEquals([broken.line, broken.status, broken.error.code], [3, "failed", "invalid_request"]);

  const load = async (id: string) => (await alice.request("GET", `/conversations/${id}/messages`)).body.data;
  const messages: Message[] = await load(trip.new_id);
  assertEquals(messages.map((m) => [m.sequence_order, m.role, m.name, m.model, m.item_id, m.created_at]), [
    [1, "user", null, null, "n-question", "2024-05-01T10:00:01.5+00:00"],
    [2, "assistant", null, "gpt-4o", "n-call", "2024-05-01T10:00:05.25+00:00"],
    [3, "tool", "python", null, "n-result", "2024-05-01T10:00:06.123456+00:00"],
    [4, "assistant", null, "gpt-4o", "n-answer", "2024-05-01T10:00:09+00:00"],
    [5, "user", null, null, "n-image", "2024-05-01T10:01:00+00:00"],
  ]);
  const [{ id: callId, function: called }] = messages[1].tool_calls as {
    id: string;
    function: { arguments: string };
  }[];
  assertEquals([JSON.parse(called.arguments).code, messages[2].tool_call_id], ["print(21 * 2)", callId]);
  assertEquals((messages[4].parts as { content_type?: string }[])[0].content_type, "image_asset_pointer");
  assertEquals(messages[4].content, "And this?");
  const forked: Message[] = await load(edited.new_id);
  assertEquals(forked.map((m) => m.item_id), ["n-question", "n-call", "n-result", "n-answer", "n-edited", "n-reply"]);

  const { body: conversation } = await alice.request("GET", `/conversations/${edited.new_id}`);
  assertEquals(
    [conversation.title, conversation.parent_id, conversation.fork_sequence, conversation.created_at],
    ["Half of 84", trip.new_id, 4, "2024-05-01T10:00:30+00:00"],
  );
  const chatgpt = { default_model_slug: "gpt-4o" };
  assertEquals(conversation.metadata, { source: "chatgpt", source_id: "11111111-aaaa", chatgpt });
});

Deno.test("one conversation of a ChatGPT export that cannot be stored, or is too wide, leaves the others alone", async () => {
  const alice = await signUp();
  const { status, body } = await alice.request("POST", "/conversations/import", {
    body: [wideChat("good", 1), wideChat("nul\0", 0), wideChat("half \ud800", 0), wideChat("wide", 1000)],
  });
  assertEquals([status, body.imported, body.failed], [200, 2, 3]);
  assertEquals(body.conversations.map((entry: { line: number; status: string }) => [entry.line, entry.status]), [
    [1, "imported"],
    [1, "imported"],
    [2, "failed"],
    [3, "failed"],
    [4, "failed"],
  ]);
  assertEquals((await sql`select from conversations where user_id = ${alice.id}`).length, 2);
});

/** One question, and so many answers besides the one that is shown. */
function wideChat(title: string, branches: number) {
  const node = (parent: string | null, children: string[], role: string) => ({
    parent,
    children,
    message: { author: { role }, content: { content_type: "text", parts: ["x"] } },
  });
  const leaves = Array.from({ length: branches + 1 }, (_, i) => `n${i}`);
  const answers = Object.fromEntries(leaves.map((leaf) => [leaf, node("r", [], "assistant")]));
  return { id: uuid(), title, current_node: "n0", mapping: { r: node(null, leaves, "user"), ...answers } };
}

// ---- npm run import -----------------------------------------------------------------------------------------------------

async function npmImport(person: TestUser, file: string, ...args: string[]) {
  const { code, stdout, stderr } = await new Deno.Command("npm", {
    args: ["run", "--silent", "import", "--", file, "--url", apiUrl, "--token", person.token, ...args],
    cwd: root,
    env: { PUBLISHABLE_KEY: publishableKey },
  }).output();
  return { code, out: new TextDecoder().decode(stdout), progress: new TextDecoder().decode(stderr) };
}

async function inFile<T>(lines: unknown[], use: (file: string) => Promise<T>): Promise<T> {
  const file = await Deno.makeTempFile();
  try {
    const texts = lines.map((line) => typeof line === "string" ? line : `${JSON.stringify(line)}\n`);
    await Deno.writeTextFile(file, texts.join(""));
    return await use(file);
  } finally {
    await Deno.remove(file);
  }
}

Deno.test("npm run import takes a file of any size, forks and large conversations included", async () => {
  const alice = await signUp();
  const text = "a word or two ".repeat(70);
  const lines: unknown[] = [];
  for (let i = 0; i < 450; i++) {
    lines.push({ type: "conversation", id: `c${i}`, title: `c${i}` }, textLine(text), textLine(`${i}`));
  }
  lines.push({ type: "conversation", id: "t", deleted: true, last_sequence_order: 2 }, textLine("t1"), textLine("t2"));
  lines.push({ type: "conversation", id: "t0", deleted: true }, textLine("nobody's"));
  lines.push({ type: "conversation", id: "large", title: "large" });
  for (let i = 0; i < 9000; i++) lines.push(textLine(`${i} ${text}`, { sequence_order: i + 1 }));
  lines.push({ type: "conversation", id: "f", title: "f", parent_id: "large", fork_sequence: 8000 }, textLine("end"));
  lines.push({ type: "conversation", id: "g", title: "g", parent_id: "c0", fork_sequence: 2 }, textLine("end"));
  lines.push({ type: "conversation", id: "h", title: "h", parent_id: "t", fork_sequence: 2 }, textLine("end"));
  const conversations = 450 + 4;
  const messages = 900 + 2 + 1 + 9000 + 3;
  lines.push({ type: "end", conversations, tombstones: 2, messages });
  await inFile(lines, async (file) => {
    const { size } = await Deno.stat(file);
    assert(size > 9_500_000, `${size} bytes`);
    const { code, out, progress } = await npmImport(alice, file);
    assertEquals(
      [code, out],
      [0, `Imported 456 conversations with ${messages} messages; 0 failed, 0 skipped.\n`],
      progress,
    );
    const percents = [...progress.matchAll(/^ *(\d+) %/gm)].map((match) => Number(match[1]));
    assert(percents.length >= 5 && percents.at(-1) === 100, progress);
    assertEquals(percents, percents.toSorted((a, b) => a - b));
  });
  const rows = await sql`
    select c.title, c.deleted_at is null as alive, c.last_sequence_order as last, count(m.id)::integer as messages
    from conversations c left join conversation_messages m on m.conversation_id = c.id
    where c.user_id = ${alice.id} and (c.title is null or c.title !~ '^c')
    group by c.id order by c.title`;
  assertEquals(rows.map((row) => Object.values(row)), [
    ["f", true, 8001, 1],
    ["g", true, 3, 1],
    ["h", true, 3, 1],
    ["large", true, 9000, 9000],
    [null, false, 2, 2],
  ]);
  assertEquals((await sql`select from private.imports where user_id = ${alice.id}`).length, 0);
});

Deno.test("npm run import reads a ChatGPT file, and ends with 1 for whatever is not imported", async () => {
  const alice = await signUp();
  const chatGpt = await inFile([JSON.stringify(chatGptExport, null, 2)], (file) => npmImport(alice, file, "--verbose"));
  assertEquals([chatGpt.code, chatGpt.out], [1, "Imported 3 conversations with 9 messages; 1 failed, 0 skipped.\n"]);
  assertMatch(chatGpt.progress, /^3: invalid_request/m);
  assertMatch(chatGpt.progress, /1 branches became forks/);

  const good = [{ type: "conversation", id: "a" }, textLine("1")];
  const end = { type: "end", conversations: 1, messages: 1 };
  const run = (...lines: unknown[]) => inFile(lines, (file) => npmImport(alice, file));
  assertEquals((await run(...good, end)).code, 0);
  const cut = await run(...good);
  assertEquals(cut.code, 1);
  assertMatch(cut.progress, /no end line/);
  const broken = await run(...good, { type: "conversation", id: "b" }, "garbage\n", end);
  assertEquals(broken.code, 1);
  assertMatch(broken.progress, /^3 \(b\), line 4: invalid_json/m);
  assertMatch(broken.out, /^Imported 1 conversations with 1 messages; 2 failed/);
  assertNotEquals((await npmImport({ ...alice, token: "x" }, import.meta.filename!)).code, 0);
  // Logging in works as well.
  const email = `${uuid()}@example.com`;
  const password = uuid();
  await newClient().auth.signUp({ email, password });
  const loggedIn = await inFile(
    [...good, end],
    (file) => npmImport({ ...alice, token: "" }, file, "--email", email, "--password", password),
  );
  assertEquals(loggedIn.code, 0, loggedIn.progress);
});

Deno.test("npm run import imports all but what a damaged file has lost", async () => {
  const good = ["a", "b", "c"].flatMap((id) => [{ type: "conversation", id, title: id }, textLine("?")]);
  const cases: [string, unknown[], RegExp][] = [
    ["3 conversations with 3 messages; 1 failed", ['{"type":"end","conversat'], /^Line 7: .*broken/m],
    [
      "3 conversations with 3 messages; 2 failed",
      ['{"type":"conversation","id":"z","deleted":true,"crea'],
      /^7.*: invalid_json/m,
    ],
    [
      "3 conversations with 3 messages; 1 failed",
      [{ type: "conversation", id: "z" }, textLine("\xff"), { type: "end", conversations: 4, messages: 4 }],
      /^7 \(z\), line 8: invalid_json/m,
    ],
  ];
  for (const [summary, lines, told] of cases) {
    const alice = await signUp();
    const file = await Deno.makeTempFile();
    const text = [...good, ...lines].map((line) => typeof line === "string" ? line : JSON.stringify(line)).join("\n");
    await Deno.writeFile(file, Uint8Array.from(text, (character) => character.charCodeAt(0)));
    const { code, out, progress } = await npmImport(alice, file).finally(() => Deno.remove(file));
    assertEquals([code, out], [1, `Imported ${summary}, 0 skipped.\n`], progress);
    assertMatch(progress, told);
    assert(!progress.includes("    at "), progress);
    const rows = await sql`select title from conversations where user_id = ${alice.id} order by 1`;
    assertEquals(rows.map((row) => row.title), ["a", "b", "c"]);
  }
});

Deno.test("npm run import: a wide ChatGPT conversation, a byte that is not UTF-8, and what is sent again", async () => {
  const alice = await signUp();
  const text = JSON.stringify([wideChat("wide", 210), wideChat("\xff", 0), wideChat("last", 0)]);
  const file = await Deno.makeTempFile();
  await Deno.writeFile(file, Uint8Array.from(text, (character) => character.charCodeAt(0)));
  let answers = [503];
  const proxy = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, async (request) => {
    const body = await request.arrayBuffer();
    const status = answers.shift();
    if (status) return new Response("not now", { status });
    const { pathname } = new URL(request.url);
    return await fetch(`${apiUrl}${pathname}`, { method: request.method, headers: request.headers, body });
  });
  const through = ["--url", `http://127.0.0.1:${proxy.addr.port}`];
  try {
    const { code, out, progress } = await npmImport(alice, file, ...through);
    assertEquals([code, answers, out.split(";")[0]], [1, [], "Imported 212 conversations with 214 messages"], progress);
    assertMatch(progress, /^2: invalid_json/m);
    // Anything else may have been half done.
    answers = [500];
    const stopped = await npmImport(alice, file, ...through);
    assertEquals([stopped.code, answers, stopped.out.split(",")[0]], [
      1,
      [],
      "Imported 0 conversations with 0 messages; 1 failed",
    ]);
    assertMatch(stopped.progress, /^Stopped, and the rest was not sent. The API answered 500: not now$/m);
  } finally {
    await proxy.shutdown();
    await Deno.remove(file);
  }
});
