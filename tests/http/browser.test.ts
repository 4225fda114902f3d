// What a page of another origin can do and read, in a real browser.
import { assert, assertEquals, assertMatch } from "@std/assert";
import type { Page } from "playwright-core";
import { join } from "node:path";
import { functionNames } from "../../local/functions.ts";
import { startStack } from "../../local/stack.ts";
import { browserTest } from "../support/browser.ts";
import type {} from "../support/frontend.ts";
import { copyProject, writeFunction } from "../support/project.ts";
import { apiUrl, publishableKey, uuid } from "../support/stack.ts";

type Options = Parameters<typeof frontend.call>[1];

const call = (page: Page, path: string, options?: Options) =>
  page.evaluate(([path, options]) => frontend.call(path, options), [path, options] as const);

async function logIn(page: Page, url: string, key: string): Promise<void> {
  const email = `${uuid()}@example.com`;
  await page.evaluate(([url, key]) => frontend.connect(url, key), [url, key]);
  await page.evaluate(([email, password]) => frontend.logIn(email, password), [email, uuid()]);
}

browserTest("a page of another origin logs in, remembers, follows a session, and reads every error", async (page) => {
  await logIn(page, apiUrl, publishableKey);

  const message = { role: "user", content: "Remember me." };
  const created = await call(page, "conversations", { body: { title: "From a page", messages: [message] } });
  assertEquals(created.status, 201);
  const path = `conversations/${created.body.id}`;
  assertEquals((await call(page, `${path}/messages`, { body: { messages: [message] } })).status, 201);
  const loaded = await call(page, `${path}/messages`, { method: "GET" });
  assertEquals(loaded.body.data.map((m: typeof message) => m.content), [message.content, message.content]);
  assertEquals(await page.evaluate(() => frontend.count()), { status: 200, count: 1 });

  const session = (await call(page, "sessions", { body: { conversation_id: created.body.id } })).body.id;
  const append = async (text: string) => {
    const events = [{ event_type: "user_message", content: { text } }];
    assertEquals((await call(page, `sessions/${session}/events`, { body: { events } })).status, 201);
  };
  await append("before");
  const followed = page.evaluate((id) => frontend.follow(id), session);
  await page.waitForFunction(() => frontend.received.length === 1);
  await append("meanwhile");
  await page.waitForFunction(() => frontend.received.length === 2);
  await call(page, `sessions/${session}/end`, { body: {} });
  await followed;
  assertEquals(await page.evaluate(() => frontend.received), ["before", "meanwhile"]);

  const errors: [status: number, code: string, path: string, options: Options][] = [
    [400, "invalid_request", "conversations", { body: { titel: "x" } }],
    [401, "unauthorized", path, { method: "GET", headers: { Authorization: "Bearer nobody" } }],
    [403, "forbidden", "sessions/unsummarized", { method: "GET" }],
    [404, "conversation_not_found", `conversations/${uuid()}`, { method: "GET" }],
    [404, "not_found", `${path}/nothing`, { method: "GET" }],
    [405, "method_not_allowed", path, { method: "PUT", body: {} }],
    [409, "sequence_conflict", `${path}/messages`, { body: { messages: [message], expected_sequence: 0 } }],
    [415, "unsupported_media_type", "conversations", { body: "title=x" }],
  ];
  for (const [status, code, path, options] of errors) {
    const { headers, ...seen } = await call(page, path, options);
    assertEquals([seen.status, seen.body.code, headers["x-request-id"]], [status, code, seen.body.request_id]);
    if (status === 405) assertMatch(headers.allow, /PATCH/);
  }
  // Made there: a megabyte takes half a second from here to the page.
  const large = await page.evaluate(() =>
    frontend.call("conversations", { body: { title: "x".repeat(20 * 1024 * 1024) } })
  );
  assertEquals([large.status, large.body.code], [413, "payload_too_large"]);
});

browserTest("a page of another origin reads that a function does not exist, or does not start", async (page) => {
  const copy = await copyProject();
  const directory = join(copy, "supabase/functions");
  try {
    const others = (await functionNames(directory)).filter((name) => name !== "conversations");
    for (const name of others) await Deno.remove(join(directory, name), { recursive: true }); // the start is quicker
    const postgresBin = Deno.env.get("POSTGRES_BIN") || undefined;
    const stack = await startStack({ root: copy, dataDir: join(copy, "data"), port: 0, dbPort: 0, postgresBin });
    try {
      await logIn(page, stack.apiUrl, stack.publishableKey);
      const unknown = await call(page, "broken", { body: {} });
      assertEquals([unknown.status, unknown.body.code], [404, "NOT_FOUND"]);

      await writeFunction(copy, "broken", "this is not TypeScript");
      let broken = unknown;
      for (let i = 0; i < 100 && broken.status === 404; i++) {
        await new Promise((resolve) => setTimeout(resolve, 100));
        broken = await call(page, "broken", { body: {} });
      }
      assertEquals([broken.status, broken.body.code], [503, "BOOT_ERROR"]);
      assert((await call(page, "conversations", { method: "GET" })).body.data, "the others answer as ever");
    } finally {
      await stack.stop();
    }
  } finally {
    await Deno.remove(copy, { recursive: true });
  }
});
