// What the README and docs/ show, run as it stands there. The summary worker takes everybody's sessions, so this
// has a stack of its own.
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { createClient } from "@supabase/supabase-js";
import { decodeJwt, SignJWT } from "jose";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import postgres from "postgres";
import { envFile, envOf, formatEnv } from "../../local/env.ts";
import { type Stack, startStack } from "../../local/stack.ts";
import { block, readDocs } from "../support/docs.ts";
import { root } from "../support/project.ts";

const [readme, sessionsPage, privacyPage, retentionPage] = await Promise.all(
  ["README.md", "docs/sessions.md", "docs/privacy.md", "docs/retention.md"].map(readDocs),
);

/** A block in TypeScript as a function, which answers what `result` names in it. */
async function compile(code: string, parameters: string, result: string): Promise<CallableFunction> {
  const file = await Deno.makeTempFile({ suffix: ".ts" });
  await Deno.writeTextFile(file, `export default async (${parameters}) => {\n${code}\nreturn ${result};\n};\n`);
  const { default: compiled } = await import(pathToFileURL(file).href);
  await Deno.remove(file);
  return compiled;
}

async function login({ apiUrl, publishableKey }: Stack, email: string) {
  const client = createClient(apiUrl, publishableKey, { auth: { persistSession: false, autoRefreshToken: false } });
  const { data, error } = await client.auth.signInWithPassword({ email, password: "threadbase-demo" });
  if (error) throw error;
  return { client, token: data.session.access_token };
}

const backendOf = ({ apiUrl, secretKey }: Stack) => async (path: string, body?: object, userId = "somebody") => {
  const response = await fetch(`${apiUrl}/functions/v1/sessions${path}`, {
    method: body ? "POST" : "GET",
    headers: { apikey: secretKey, "x-user-id": userId, "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  const answer = await response.json();
  assert(response.ok, JSON.stringify(answer));
  return answer;
};

Deno.test("the README's commands and code, pasted in their order", async (t) => {
  const dataDir = join(tmpdir(), `threadbase-test-${crypto.randomUUID()}`);
  const postgresBin = Deno.env.get("POSTGRES_BIN") || undefined;
  const stack = await startStack({ port: 0, dbPort: 0, dataDir, postgresBin });
  const backend = backendOf(stack);
  await Deno.writeTextFile(envFile(dataDir), formatEnv(envOf(stack)));

  /** Runs blocks in one shell, as somebody would who pastes them. Only where the stack and the file are is put in. */
  const paste = async (blocks: string[], env: Record<string, string> = {}): Promise<string> => {
    const script = ["set -eo pipefail", ...blocks].join("\n")
      .replace("npm run -s status --", `$& --data-dir ${dataDir}`)
      .replaceAll("npm run import --", `$& --data-dir ${dataDir}`)
      .replaceAll(/\w+\.ndjson/g, `${dataDir}/$&`);
    const { code, stdout, stderr } = await new Deno.Command("bash", {
      args: ["-c", script],
      cwd: root,
      env: { NO_COLOR: "1", ...env },
    }).output();
    const output = new TextDecoder().decode(stdout);
    assertEquals(code, 0, `${output}\n${new TextDecoder().decode(stderr)}`);
    return output;
  };
  const firstCall = block(readme, "sh", "TOKEN=$(curl");

  try {
    await t.step("a first call, export and import", async () => {
      const output = await paste([firstCall, block(readme, "sh", "npm run import")]);
      assertStringIncludes(output, '"title":"First contact"');
      assertStringIncludes(output, "Imported 2 conversations with 6 messages; 0 failed");
    });

    await t.step("a session, and the worker that summarises it", async () => {
      const output = await paste([firstCall, block(readme, "sh", "SESSION=")]);
      const [id] = output.match(/(?<="id":")0198c7b4[^"]+/)!;
      assertStringIncludes(output, '"text":"Hi there."', "the audit folds the chunks");
      assertStringIncludes(output, "event: end\n", "the stream ends with the session");
      assertStringIncludes(await paste([firstCall, block(sessionsPage, "sh", "analytics")]), '"ai_chunk":2');

      // More than one page of events.
      const { id: long } = await backend("", {});
      for (let chunk = 0; chunk < 2500; chunk += 500) {
        const events = Array.from({ length: 500 }, (_, i) => ({
          event_type: "ai_chunk",
          content: { text: ` ${chunk + i + 1}` },
        }));
        await backend(`/${long}/events`, { events });
      }
      await backend(`/${long}/end`, {});

      const prompts: string[] = [];
      const openai = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, async (request) => {
        const { messages } = await request.json();
        prompts.push(messages[0].content);
        const message = { role: "assistant", content: `Summary of ${messages[0].content.length} characters.` };
        return Response.json({ id: "1", object: "chat.completion", choices: [{ index: 0, message }] });
      });
      await paste([firstCall, block(readme, "sh", "unsummarized")], {
        OPENAI_API_KEY: "none",
        OPENAI_BASE_URL: `http://127.0.0.1:${openai.addr.port}/v1`,
      });
      await openai.shutdown();

      assertEquals(prompts.length, 2);
      assertStringIncludes(prompts[0], "user_message: Hello?\nHi there.");
      assert(prompts[1].endsWith(Array.from({ length: 2500 }, (_, i) => ` ${i + 1}`).join("")), "all pages, once");
      const { summary } = await backend(`/${id}`, undefined, "+49 30 123456");
      assertEquals(summary, `Summary of ${prompts[0].length} characters.`);
      assertEquals((await backend(`/${long}`)).summary, `Summary of ${prompts[1].length} characters.`);
    });

    await t.step("docs/privacy.md: everything of a user, and what of it can be imported", async () => {
      const blocks = ["> everything.ndjson", "> conversations.ndjson"].map((part) => block(privacyPage, "sh", part));
      assertMatch(await paste([firstCall, ...blocks]), /Imported \d+ conversations with \d+ messages; 0 failed/);
    });

    await t.step("the SQL of retention, as the owner of the database", async () => {
      const sql = postgres(stack.dbUrl, { max: 1, onnotice: () => {} });
      await sql.unsafe(block(readme, "sql", "set_retention_policy"));
      for (const part of ["set_retention_policy", "retention_step"]) {
        await sql.unsafe(block(retentionPage, "sql", part));
      }
      const policies = await sql`select kind from private.retention_policies where collection = 'traces'`;
      await sql.end();
      assertEquals(policies.length, 1);
    });

    await t.step("the OpenAI SDK", async () => {
      const output = await paste([firstCall, block(readme, "sh", "new OpenAI({ baseURL")]);
      assert(output.indexOf("Remember me.", output.indexOf("user")) < output.indexOf("I do."), output);
    });

    await t.step("a frontend", async () => {
      const { client } = await login(stack, "bob@example.com");
      const page = await (await compile(block(readme, "ts", "error.context"), "supabase", "page"))(client);
      assertEquals(page.data.map((message: { content: string }) => message.content), ["Remember me."]);
      const found = await (await compile(block(readme, "ts", "documents/customers/find"), "supabase", "data"))(client);
      assertEquals([found.total_count, found.items[0].name], [1, "Ada"]);
    });

    await t.step("docs/sessions.md: a stream read with fetch goes on where it ended by itself", async () => {
      const { token } = await login(stack, "alice@example.com");
      const claims = decodeJwt(token);
      const { id } = await backend("", {}, claims.sub);
      const log = (text: string) =>
        backend(`/${id}/events`, { events: [{ event_type: "ai_message", content: { text } }] }, claims.sub);
      // A stream ends five seconds before the token does.
      let logins = 0;
      const getSession = async () => {
        logins++;
        const access_token = await new SignJWT({
          ...claims,
          exp: Math.floor(Date.now() / 1000) + (logins > 1 ? 60 : 8),
        })
          .setProtectedHeader({ alg: "HS256" }).sign(new TextEncoder().encode(stack.jwtSecret));
        return { data: { session: { access_token } } };
      };
      const code = block(sessionsPage, "ts", "async function follow");
      const follow = await (await compile(code, "supabase, API_URL", "follow"))({ auth: { getSession } }, stack.apiUrl);

      const seen: [number, string][] = [];
      await log("one");
      const ended = follow(id, ({ sequence, content }: { sequence: number; content: { text: string } }) => {
        seen.push([sequence, content.text]);
      });
      for (let i = 0; i < 1200 && logins < 2; i++) await new Promise((resolve) => setTimeout(resolve, 50));
      await log("two");
      await log("three");
      await backend(`/${id}/end`, {}, claims.sub);
      await ended;
      assertEquals([seen, logins], [[[1, "one"], [2, "two"], [3, "three"]], 2]);

      await follow(id, () => seen.push([0, "again"]), 3); // 204
      const unknown = await follow(crypto.randomUUID(), () => {}).catch((error: Error) => error.message);
      assertEquals([seen.length, unknown], [3, "session_not_found"]);
    });
  } finally {
    await stack.stop();
    await Deno.remove(dataDir, { recursive: true });
  }
});
