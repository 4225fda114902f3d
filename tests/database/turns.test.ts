// Large calls of one user, made past the functions: a few at a time, so that others have connections.
import { assertEquals } from "@std/assert";
import postgres from "postgres";
import { dbUrl, signUp } from "../support/stack.ts";

const CONNECTIONS = 8;
const TURNS = 3;
const WAITING = 3;

type Call = (tx: postgres.TransactionSql) => Promise<unknown>;

Deno.test("three large calls of a user are worked on, three wait, more are refused; small ones and others' go on", async () => {
  const [alice, bob] = [await signUp(), await signUp()];
  const sql = postgres(dbUrl, { max: CONNECTIONS, onnotice: () => {} });
  await using cleanUp = new AsyncDisposableStack();
  cleanUp.defer(() => sql.end());
  const asUser = async (role: string, id: string | undefined, call: Call) =>
    await sql.begin(async (tx) => {
      await tx`select set_config('request.jwt.claims', ${JSON.stringify({ sub: id, role })}, true)`;
      await call(tx);
    }).then(() => "done", (error) => `${error.code} ${error.message}`);
  const [{ id }] = await sql`insert into conversations (user_id) values (${alice.id}) returning id`;
  const messages = (count: number) => JSON.stringify(Array(count).fill({ role: "user", content: "x" }));
  const values = (bytes: number) => JSON.stringify({ a: "x".repeat(bytes) });

  const large: Record<string, Call> = {
    search: (tx) => tx`select public.search_messages('x')`,
    audit: (tx) => tx`select public.audit_events()`,
    analytics: (tx) => tx`select public.session_analytics()`,
    context: (tx) => tx`select public.get_context(${id}, 100001)`,
    "a caller's context": (tx) => tx`select public.get_session_context(100001)`,
    "an append": (tx) => tx`select public.append_messages(${id}, ${messages(501)}::text::jsonb)`,
    "an export": (tx) => tx`select public.export_page('{}')`,
    "an export of all": (tx) => tx`select public.export_user_page('{}')`,
    "documents found": (tx) => tx`select public.find_documents('x', ${values(512)}::text::jsonb)`,
    "a document": (tx) => tx`select public.find_document('x', ${values(512)}::text::jsonb)`,
    "documents counted": (tx) => tx`select public.count_documents('x', ${values(512)}::text::jsonb)`,
    "documents stored": (tx) =>
      tx`select public.insert_documents('x', ${JSON.stringify(Array(501).fill({}))}::text::jsonb)`,
  };
  const small: Record<string, Call> = {
    "a page": (tx) => tx`select public.list_messages(${id}, p_limit => 1000)`,
    "an append": (tx) => tx`select public.append_messages(${id}, ${messages(500)}::text::jsonb)`,
    context: (tx) => tx`select public.get_context(${id}, 100000)`,
    "a filter": (tx) => tx`select public.find_documents('x', ${values(400)}::text::jsonb)`,
  };

  await Promise.all(Array.from({ length: CONNECTIONS }, () => sql`select pg_sleep(0.1)`)); // all are there
  // Those that work hold their turn until they are told to end.
  const end = Promise.withResolvers<void>();
  const begun: Promise<void>[] = [];
  const working = Array.from({ length: TURNS }, () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    begun.push(promise);
    return asUser("authenticated", alice.id, async (tx) => {
      await large.search(tx);
      await large.search(tx); // in the same transaction it is the same turn
      resolve();
      await end.promise;
    });
  });
  await Promise.all(begun);
  const startedAt = performance.now();
  const refused: string[] = [];
  const waiting = Array.from({ length: WAITING + 1 }, async () => {
    refused.push(`${await asUser("authenticated", alice.id, large.search)} ${performance.now() - startedAt >= 900}`);
  });
  await Promise.all(waiting);
  // One at once, the others after a second.
  assertEquals(refused, ["PT429 user_busy false", ...Array(WAITING).fill("PT429 user_busy true")]);
  const answers = await Promise.all(
    Object.entries(large).map(async ([name, call]) => [name, await asUser("authenticated", alice.id, call)]),
  );
  assertEquals(answers, Object.keys(large).map((name) => [name, "PT429 user_busy"]));
  for (const [name, call] of Object.entries(small)) {
    assertEquals(await asUser("authenticated", alice.id, call), "done", name);
  }
  assertEquals(await asUser("authenticated", bob.id, large.search), "done");
  assertEquals(await asUser("service_role", undefined, large.audit), "done");

  // Who waits is served when a turn ends.
  const next = asUser("authenticated", alice.id, large.audit);
  await new Promise((resolve) => setTimeout(resolve, 100));
  end.resolve();
  assertEquals([await next, ...await Promise.all(working)], Array(1 + TURNS).fill("done"));
  for (const [name, call] of Object.entries(large)) {
    assertEquals(await asUser("authenticated", alice.id, call), "done", name);
  }
});
