// The commands of package.json: what they refuse, and which stack they act on.
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { envFile, formatEnv, parseEnv } from "../../local/env.ts";
import { apiUrl, dbUrl, newConversation, publishableKey, secretKey, signUp } from "../support/stack.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const { scripts } = JSON.parse(await Deno.readTextFile(join(root, "package.json"))) as {
  scripts: Record<string, string>;
};

/** Runs a command as npm does, in an environment that knows no stack. */
async function npm(command: string, args: string[], env: Record<string, string> = {}) {
  const [program, ...script] = scripts[command].split(" ");
  const inherited = ["HOME", "DENO_DIR", "TMPDIR"].map((name) => [name, Deno.env.get(name)]);
  const PATH = `${join(root, "node_modules/.bin")}:${Deno.env.get("PATH")}`;
  const { code, stdout, stderr } = await new Deno.Command(program, {
    args: [...script, ...args],
    cwd: root,
    clearEnv: true,
    env: { ...Object.fromEntries(inherited.filter(([, value]) => value)), PATH, NO_COLOR: "1", ...env },
  }).output();
  return { code, stdout: new TextDecoder().decode(stdout), stderr: new TextDecoder().decode(stderr) };
}

/** A data directory as a stack leaves it: the one under test, but for what is given. */
async function dataDir(more: Record<string, string> = {}): Promise<string> {
  const directory = await Deno.makeTempDir({ prefix: "threadbase-test-" });
  const env = { API_URL: apiUrl, DB_URL: dbUrl, PUBLISHABLE_KEY: publishableKey, SECRET_KEY: secretKey, ...more };
  await Deno.writeTextFile(envFile(directory), formatEnv(env));
  return directory;
}

for (const command of Object.keys(scripts)) {
  Deno.test(`npm run ${command}: says how it is used, and refuses what it does not know`, async () => {
    const help = await npm(command, ["--help"]);
    assertEquals([help.code, help.stderr], [0, ""]);
    assertMatch(help.stdout, new RegExp(`^Usage: npm (run )?(-s )?${command}`, "m"));

    const option = await npm(command, ["--prot", "0"]);
    assertEquals([option.code, option.stdout], [1, ""]);
    assertStringIncludes(option.stderr, "Unknown option '--prot'");
    assertStringIncludes(option.stderr, help.stdout.trimEnd());

    if (["test", "import"].includes(command)) return; // take any number of files
    const argument = await npm(command, ["one", "two"]);
    assertEquals(argument.code, 1);
    assertStringIncludes(
      argument.stderr,
      `Unexpected argument '${["add", "migration"].includes(command) ? "two" : "one"}'`,
    );
  });
}

Deno.test("a stack that is gone is an error, also where another one listens on its port", async () => {
  const never = await Deno.makeTempDir({ prefix: "threadbase-test-" });
  const killed = await dataDir({ API_URL: "http://127.0.0.1:9" });
  const replaced = await dataDir({ SECRET_KEY: "sb_secret_of_the_one_that_was_killed" });
  const account = ["--email", "alice@example.com", "--password", "threadbase-demo"];
  for (const directory of [never, killed, replaced]) {
    for (const [command, ...args] of [["status"], ["demo"], ["types"], ["import", "README.md", ...account]]) {
      const { code, stdout, stderr } = await npm(command, [...args, "--data-dir", directory]);
      assertEquals([code, stdout], [1, ""], command);
      assertStringIncludes(stderr, `No stack is running on ${directory}.`, command);
    }
    await Deno.remove(directory, { recursive: true });
  }
});

Deno.test("status and demo use the stack of --data-dir, whatever the environment says", async () => {
  const directory = await dataDir();
  const elsewhere = { API_URL: "http://127.0.0.1:9", DB_URL: "", PUBLISHABLE_KEY: "other", SECRET_KEY: "other" };
  const status = await npm("status", ["-o", "env", "--data-dir", directory], elsewhere);
  assertEquals([status.code, status.stderr], [0, ""]);
  assertEquals(parseEnv(status.stdout), parseEnv(await Deno.readTextFile(envFile(directory))));
  const json = await npm("status", ["--output", "json", "--data-dir", directory]);
  assertEquals(JSON.parse(json.stdout), parseEnv(status.stdout));
  const unknown = await npm("status", ["-o", "yaml", "--data-dir", directory]);
  assertEquals([unknown.code, unknown.stdout], [1, ""]);
  assertStringIncludes(unknown.stderr, "pretty, env, json");

  const demo = await npm("demo", ["--data-dir", directory], elsewhere);
  assertEquals([demo.code, demo.stderr], [0, ""]);
  assertStringIncludes(demo.stdout, apiUrl);
  assertStringIncludes(demo.stdout, "conversation_not_found");
  await Deno.remove(directory, { recursive: true });
});

Deno.test("import says where it goes before it goes there, and mixes neither two projects nor two accounts", async () => {
  const [alice, bob] = [await signUp(), await signUp()];
  await newConversation(alice, { messages: [{ role: "user", content: "mine" }] });
  const directory = await dataDir();
  const file = join(directory, "export.ndjson");
  await Deno.writeTextFile(file, (await alice.request("GET", "/conversations/export")).body);
  const owned = async () => (await bob.request("GET", "/conversations")).body.data.length;
  const target = `Importing ${file} into the account ${bob.email} of ${apiUrl}\n`;

  const elsewhere = { API_URL: "http://127.0.0.1:9", PUBLISHABLE_KEY: "other" };
  const explicit = await npm("import", [file, "--data-dir", directory, "--token", bob.token], elsewhere);
  assertEquals([explicit.code, await owned()], [0, 1], explicit.stderr);
  assert(explicit.stderr.startsWith(target), explicit.stderr);

  const environment = { API_URL: apiUrl, PUBLISHABLE_KEY: publishableKey, ACCESS_TOKEN: bob.token };
  const implicit = await npm("import", [file], environment);
  assertEquals([implicit.code, await owned()], [0, 2], implicit.stderr);
  assert(implicit.stderr.startsWith(target), implicit.stderr);

  const refused = [
    [["--url", apiUrl, "--data-dir", directory], /not both/],
    [["--email", alice.email, "--token", bob.token], /Whose account/],
    // The token in the environment is not taken for the account that was asked for.
    [["--email", alice.email, "--password", "wrong"], /account .*@example\.com of .*\nLogging in failed/],
    // Nor is the key of the project in the environment sent to another.
    [["--url", "http://127.0.0.1:9", "--email", alice.email, "--password", "x"], /takes its publishable key/],
    [["--token", "sb_secret_x"], /access token is not one/],
  ] as const;
  for (const [args, reason] of refused) {
    const { code, stderr } = await npm("import", [file, ...args], environment);
    assertEquals(code, 1, stderr);
    assertMatch(stderr, reason);
  }
  assertEquals(await owned(), 2);
  await Deno.remove(directory, { recursive: true });
});
