// A gateway that speaks SQL, as the role gateway: Plano's statements, on the view.
// (katanemo/plano, crates/brightstaff/src/state/postgresql.rs)
import { assertEquals, assertRejects } from "@std/assert";
import postgres from "postgres";
import { connect, dbUrl, signUp } from "../support/stack.ts";

const item = (role: string, text: string) => ({ role, content: [{ type: "input_text", text }] });
type Item = ReturnType<typeof item>;

/** A deployer's own login role: the stack has no password for `gateway`, and the tests leave none. */
async function asGateway(run: (gateway: postgres.Sql, owner: postgres.Sql) => Promise<void>): Promise<void> {
  const owner = connect();
  const name = `gateway_${crypto.randomUUID().replaceAll("-", "")}`;
  const password = crypto.randomUUID();
  await owner.unsafe(`create role ${name} login password '${password}' in role gateway`);
  await owner.unsafe(`alter role ${name} set search_path = gateway`);
  const url = new URL(dbUrl);
  const gateway = postgres({
    host: url.hostname,
    port: Number(url.port),
    database: url.pathname.slice(1),
    user: name,
    password,
    max: 2,
    onnotice: () => {},
  });
  try {
    await run(gateway, owner);
  } finally {
    await gateway.end();
    await owner.unsafe(`drop role ${name}`);
    await owner.end();
  }
}

const newId = () => `resp_${crypto.randomUUID()}`;

const plano = (sql: postgres.Sql) => ({
  put: (id: string, items: Item[], model = "gpt-4") =>
    sql`
      INSERT INTO conversation_states
          (response_id, input_items, created_at, model, provider, updated_at)
      VALUES (${id}, ${sql.json(items)}, ${1234567890}, ${model}, ${"openai"}, NOW())`,
  get: (id: string) =>
    sql`
      SELECT response_id, input_items, created_at, model, provider
      FROM conversation_states
      WHERE response_id = ${id}`,
  exists: async (id: string) =>
    (await sql`SELECT EXISTS(SELECT 1 FROM conversation_states WHERE response_id = ${id})`)[0].exists,
  delete: (id: string) => sql`DELETE FROM conversation_states WHERE response_id = ${id}`,
});

Deno.test("the gateway's statements put, get, find and delete", () =>
  asGateway(async (sql) => {
    const { put, get, exists, delete: remove } = plano(sql);
    // How it makes sure that its table is there.
    const [{ exists: table }] = await sql`
      SELECT EXISTS (SELECT FROM pg_tables WHERE tablename = 'conversation_states')`;
    assertEquals(table, true);

    const id = newId();
    assertEquals([await exists(id), (await get(id)).length], [false, 0]);
    assertEquals((await put(id, [item("user", "Test message")])).count, 1);
    const [row] = await get(id);
    assertEquals({ ...row, created_at: Number(row.created_at) }, {
      response_id: id,
      input_items: [item("user", "Test message")],
      created_at: 1234567890,
      model: "gpt-4",
      provider: "openai",
    });
    assertEquals(await exists(id), true);
    assertEquals((await remove(id)).count, 1);
    assertEquals([(await remove(id)).count, await exists(id)], [0, false]);
  }));

Deno.test("an insert under a known id replaces, and keeps created_at", () =>
  asGateway(async (sql) => {
    const { put, get, delete: remove } = plano(sql);
    const id = newId();
    await put(id, [item("user", "one")]);
    await put(id, [item("user", "one"), item("assistant", "two")], "gpt-4-turbo");
    const [row] = await get(id);
    assertEquals([row.model, row.input_items, Number(row.created_at)], [
      "gpt-4-turbo",
      [item("user", "one"), item("assistant", "two")],
      1234567890,
    ]);
    await remove(id);
  }));

Deno.test("a row brings the whole history, and what is new in it is stored", () =>
  asGateway(async (sql, owner) => {
    const { put, get, delete: remove } = plano(sql);
    const tag = crypto.randomUUID();
    const stored = async () =>
      (await owner`
        select count(*)::int as n from conversation_messages
        where user_id = private.gateway_user_id() and content like ${tag + "%"}`)[0].n;
    const history: Item[] = [];
    const ids: string[] = [];
    for (let turn = 0; turn < 20; turn++) {
      history.push(item("user", `${tag} question ${turn}`), item("assistant", `${tag} answer ${turn}`));
      ids.push(newId());
      await put(ids.at(-1)!, history);
    }
    assertEquals(await stored(), 40);
    // Another way on from the middle, and one that differs at the beginning.
    const fork = newId();
    const other = newId();
    await put(fork, [...history.slice(0, 10), item("user", `${tag} else`)]);
    await put(other, [item("system", `${tag} first`), ...history.slice(0, 2)]);
    assertEquals(await stored(), 44);

    assertEquals((await get(ids[19]))[0].input_items, history);
    assertEquals((await get(ids[7]))[0].input_items, history.slice(0, 16));
    assertEquals((await get(fork))[0].input_items, [...history.slice(0, 10), item("user", `${tag} else`)]);
    for (const id of ids) await remove(id);
    assertEquals(await stored(), 14, "the fork's ten and its own, and the other's three");
    await remove(fork);
    await remove(other);
    assertEquals(await stored(), 0);
  }));

Deno.test("a history that has lost a message since is not what a row goes on from", () =>
  asGateway(async (sql, owner) => {
    const { put, get, delete: remove } = plano(sql);
    const tag = crypto.randomUUID();
    const [first, second] = [newId(), newId()];
    const history = [item("user", `${tag} 1`), item("assistant", `${tag} 2`)];
    await put(first, history);
    await owner`delete from conversation_messages where content = ${`${tag} 1`}`;
    await put(second, [...history, item("user", `${tag} 3`)]);
    assertEquals((await get(second))[0].input_items, [...history, item("user", `${tag} 3`)]);
    await remove(first);
    await remove(second);
  }));

Deno.test("the gateway sees and reaches what it owns, and nothing else", () =>
  asGateway(async (sql, owner) => {
    const alice = await signUp();
    const id = newId();
    const body = { input: "secret", output: [], model: "m", provider: "p" };
    assertEquals((await alice.request("PUT", `/responses/${id}`, { body })).status, 201);
    const { put, get, exists, delete: remove } = plano(sql);
    assertEquals([await exists(id), (await get(id)).length, (await remove(id)).count], [false, 0, 0]);
    // Her id is free for the gateway's own.
    await put(id, [item("user", "the gateway's")]);
    assertEquals((await alice.request("GET", `/responses/${id}`)).body.input_items[0].content[0].text, "secret");
    assertEquals((await remove(id)).count, 1);

    for (
      const statement of [
        "select from public.conversation_states",
        "select from public.conversation_messages",
        "select private.response_items(gen_random_uuid(), 0, 1)",
        "select public.get_response('x')",
        "update conversation_states set model = 'x'",
      ]
    ) {
      const error = await assertRejects(() => sql.unsafe(statement), statement) as unknown as { code: string };
      assertEquals(error.code, "42501", statement);
    }
    // A function of its own, in a condition that is cheap to ask, is asked of no row that the view does not show.
    await sql.unsafe(`
      create function pg_temp.leak(id text) returns boolean language plpgsql cost 0.0000001
      as $$ begin perform set_config('leaked.ids', current_setting('leaked.ids', true) || ' ' || id, false); return true; end $$`);
    const seen = await sql.begin(async (tx) => {
      await tx`set local enable_indexscan = off`;
      await tx`set local enable_bitmapscan = off`;
      await tx`select set_config('leaked.ids', '', false)`;
      await tx`select response_id from conversation_states where pg_temp.leak(response_id)`;
      return (await tx`select current_setting('leaked.ids') as ids`)[0].ids as string;
    });
    assertEquals(seen.includes(id), false);
    // No client role reaches the view.
    const [{ anyone }] = await owner`
      select bool_or(has_table_privilege(r, 'gateway.conversation_states', 'select')) as anyone
      from unnest(array['anon', 'authenticated', 'service_role']) r`;
    assertEquals(anyone, false);
  }));

Deno.test("on conflict cannot work on a view, even for its owner", () =>
  asGateway(async (_, owner) => {
    const error = await assertRejects(() =>
      owner`
        insert into gateway.conversation_states (response_id, input_items, created_at, model, provider, updated_at)
        values (${newId()}, '[]', 0, 'm', 'p', now())
        on conflict (response_id) do update set model = excluded.model`
    ) as unknown as { code: string };
    assertEquals(error.code, "42P10");
  }));

Deno.test("two writers of one history at once are an append and a fork", () =>
  asGateway(async (sql) => {
    const { put, get, delete: remove } = plano(sql);
    const tag = crypto.randomUUID();
    const root = newId();
    const history = [item("user", tag)];
    await put(root, history);
    const children = [newId(), newId(), newId(), newId()];
    await Promise.all(children.map((id) => put(id, [...history, item("assistant", id)])));
    for (const id of children) assertEquals((await get(id))[0].input_items, [...history, item("assistant", id)]);
    for (const id of [root, ...children]) await remove(id);
  }));
