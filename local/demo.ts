/** `npm run demo`: what Threadbase is for, in one minute, through supabase-js against the running stack. */
import { createClient, FunctionsHttpError, type SupabaseClient } from "@supabase/supabase-js";
import { DATA_DIR_HELP, dataDirOption, readArguments, run, runningStack } from "./command.ts";

const HELP = `Shows what Threadbase is for, in one minute, on the running local stack: as somebody who signs up for it.

Usage: npm run demo -- [options]

${DATA_DIR_HELP}
  --help`;

const turn = [
  { role: "system", content: "You are a travel assistant. Look things up before you answer." },
  { role: "user", content: "I'm planning a weekend in Lisbon. What should I pack?" },
  {
    role: "assistant",
    content: null,
    tool_calls: [{
      id: "call_1",
      type: "function",
      function: { name: "get_forecast", arguments: '{"city":"Lisbon"}' },
    }],
  },
  { role: "tool", tool_call_id: "call_1", content: '{"sky":"sunny","high_c":24}' },
  { role: "assistant", content: "Sunny and 24 °C: light clothes, sunglasses, one jacket for the evening." },
];

interface Message {
  sequence_order: number;
  role: string;
  content: string | null;
  tool_calls: { function: { name: string } }[] | null;
}

const style = (code: number) => (text: string) => Deno.noColor ? text : `\x1b[${code}m${text}\x1b[0m`;
const bold = style(1);
const dim = style(2);
const say = (title: string, detail = "") => console.log(`\n${bold(title)} ${dim(detail)}`);

/** Calls a function and times it. What it answers beside 2xx is an error with the API's own words. */
async function invoke<T>(
  client: SupabaseClient,
  path: string,
  options: { method?: "GET" | "POST"; body?: object } = {},
): Promise<{ data: T; ms: string }> {
  const started = performance.now();
  const { data, error } = await client.functions.invoke<T>(path, options);
  if (error instanceof FunctionsHttpError) throw new Error(JSON.stringify(await error.context.json()));
  if (error) throw error;
  return { data: data!, ms: `${(performance.now() - started).toFixed(0)} ms` };
}

function print(messages: Message[]): void {
  for (const { sequence_order, role, content, tool_calls } of messages) {
    const text = content ?? dim(`calls ${tool_calls?.map((call) => call.function.name).join(", ")}()`);
    console.log(`  ${dim(String(sequence_order).padStart(2))}  ${role.padEnd(9)}  ${text}`);
  }
}

await run(async () => {
  const { values } = readArguments(HELP, dataDirOption);
  const env = await runningStack(values["data-dir"]);
  const newClient = () =>
    createClient(env.API_URL, env.PUBLISHABLE_KEY, { auth: { persistSession: false, autoRefreshToken: false } });
  console.log(`On ${env.API_URL}`);

  // ---- today ------------------------------------------------------------------------------------------------------------
  const credentials = { email: `demo-${crypto.randomUUID().slice(0, 8)}@example.com`, password: crypto.randomUUID() };
  const today = newClient();
  const { error: signUpError } = await today.auth.signUp(credentials);
  if (signUpError) throw signUpError;
  say("Today, somebody signs up.", credentials.email);

  const created = await invoke<{ id: string }>(today, "conversations", { body: { title: "A weekend in Lisbon" } });
  say("They start a conversation.", `${created.data.id}, ${created.ms}`);

  const appended = await invoke<{ messages: Message[] }>(today, `conversations/${created.data.id}/messages`, {
    body: { messages: turn },
  });
  say("One turn, tool call included, is appended: all of it or none.", appended.ms);
  print(appended.data.messages);

  // ---- tomorrow -----------------------------------------------------------------------------------------------------------
  const tomorrow = newClient();
  const { error: signInError } = await tomorrow.auth.signInWithPassword(credentials);
  if (signInError) throw signInError;
  say("Tomorrow, on another device, they come back.", "a fresh client knows nothing but the password");

  const list = await invoke<{ data: { id: string; title: string }[] }>(tomorrow, "conversations", { method: "GET" });
  say("Their conversations are there.", list.ms);
  for (const { title, id } of list.data.data) console.log(`      ${title}  ${dim(id)}`);

  await invoke(tomorrow, `conversations/${list.data.data[0].id}/messages`, {
    body: { messages: [{ role: "user", content: "And if it rains after all?" }] },
  });
  const loaded = await invoke<{ data: Message[] }>(tomorrow, `conversations/${list.data.data[0].id}/messages`, {
    method: "GET",
  });
  say(
    "They ask on, and the whole history goes back to the model.",
    `${loaded.data.data.length} messages, ${loaded.ms}`,
  );
  print(loaded.data.data);

  // ---- an edit -------------------------------------------------------------------------------------------------------------
  const fork = await invoke<{ id: string }>(tomorrow, `conversations/${list.data.data[0].id}/fork`, {
    body: { at: 5 },
  });
  await invoke(tomorrow, `conversations/${fork.data.id}/messages`, {
    body: { messages: [{ role: "user", content: "Actually, make that Oslo." }] },
  });
  const edited = await invoke<{ data: Message[] }>(tomorrow, `conversations/${fork.data.id}/messages?after=4`, {
    method: "GET",
  });
  say("They edit their last question: a fork, which shares the first five messages without a copy.", fork.ms);
  print(edited.data.data);

  // ---- a call ---------------------------------------------------------------------------------------------------------------
  const call = await invoke<{ id: string }>(tomorrow, "sessions", {
    body: { conversation_id: created.data.id, metadata: { channel: "phone" } },
  });
  const spoken = ["It ", "will ", "be ", "dry ", "in ", "Oslo."].map((text) => ({
    event_type: "ai_chunk",
    content: { text },
  }));
  await invoke(tomorrow, `sessions/${call.data.id}/events`, {
    body: { events: [{ event_type: "user_message", content: { text: "What about Oslo?" } }, ...spoken] },
  });
  say("They call. Every event is logged, token by token.", call.data.id);
  const audit = await invoke<{ data: { sequence: number; event_type: string; content: { text: string } }[] }>(
    tomorrow,
    "sessions/audit?fold=true",
    { method: "GET" },
  );
  say("What was said in the last 24 hours, chunks folded into sentences:", audit.ms);
  for (const { sequence, event_type, content } of audit.data.data) {
    console.log(`  ${dim(String(sequence).padStart(2))}  ${event_type.padEnd(12)}  ${content.text}`);
  }
  await invoke(tomorrow, `sessions/${call.data.id}/end`, {
    body: { summary: "Asked about the weather in Oslo: dry." },
  });
  const context = await invoke<{ messages: { role: string; content: string }[]; total_tokens: number }>(
    tomorrow,
    "sessions/context",
    { method: "GET" },
  );
  say("The next call begins with what was said before, ready for a model.", `${context.data.total_tokens} tokens`);
  for (const { role, content } of context.data.messages) {
    console.log(`  ${role.padEnd(9)}  ${content.replaceAll(/\s+/g, " ")}`);
  }

  // ---- documents ------------------------------------------------------------------------------------------------------------
  const documents = <T>(verb: string, body: object) => invoke<T>(tomorrow, `documents/variables/${verb}`, { body });
  const upsert = (plan: string) =>
    documents("update_one", {
      filters: { variable: "plan", key: "guest" },
      params: { variable: "plan", key: "guest", data: { plan } },
      upsert: true,
    });
  await upsert("free");
  await upsert("pro");
  const variables = await documents<{ items: { data: { plan: string } }[]; total_count: number }>("find", {
    filters: { $or: [{ key: "DEFAULT" }, { key: { $in: ["guest"] }, "data.plan": { $ne: "free" } }] },
  });
  say("An agent framework keeps its documents: a variable is set twice, found by a filter.", variables.ms);
  for (const { data } of variables.data.items) {
    console.log(`      plan = ${data.plan}  ${dim(`of ${variables.data.total_count}`)}`);
  }

  // ---- somebody else --------------------------------------------------------------------------------------------------------
  const stranger = newClient();
  await stranger.auth.signUp({ email: `stranger-${crypto.randomUUID()}@example.com`, password: crypto.randomUUID() });
  const { error } = await stranger.functions.invoke(`conversations/${created.data.id}`, { method: "GET" });
  const refused = error instanceof FunctionsHttpError ? await error.context.json() : null;
  say("Anybody else asks for the same id:", refused?.code ?? "unexpectedly, an answer");
  console.log();
  return refused?.code === "conversation_not_found" ? 0 : 1;
});
