// For tests about everything that belongs to one user.
import { assert, assertEquals } from "@std/assert";
import { type request, type TestUser, uuid } from "./stack.ts";

/** A line of an export. */
// deno-lint-ignore no-explicit-any -- every kind of line
export type Line = Record<string, any> & { type: string };

/** The lines of a whole export, as text, without those between its pieces. */
export async function exportText(send: typeof request, path = "/users/me/export"): Promise<string[]> {
  const all: string[] = [];
  for (let cursor = "";;) {
    const { status, headers, body } = await send("GET", `${path}${cursor}`);
    assertEquals([status, headers.get("content-type")], [200, "application/x-ndjson"], JSON.stringify(body));
    assert(body.endsWith("\n"));
    const lines: string[] = body.trimEnd().split("\n");
    const last = JSON.parse(lines.at(-1)!);
    all.push(...last.type === "next" ? lines.slice(0, -1) : lines);
    if (last.type !== "next") return all;
    cursor = `?cursor=${last.cursor}`;
  }
}

/** The same, read. The counts of the end line are those of the lines. */
export async function exportLines(send: typeof request): Promise<Line[]> {
  const lines: Line[] = (await exportText(send)).map((line) => JSON.parse(line));
  const { type, ...counts } = lines.at(-1)!;
  const counted: Record<string, number> = Object.fromEntries(Object.keys(counts).map((kind) => [kind, 0]));
  for (const line of lines.slice(1, -1)) counted[line.deleted ? "tombstones" : `${line.type}s`]++;
  assertEquals([lines[0].type, type, counts], ["export", "end", counted]);
  return lines;
}

/** What a user has of every kind, by id. */
export interface Belongings {
  conversation: string;
  fork: string;
  response: string;
  session: string;
  collection: string;
}

/** Gives a user something of every kind, with `text` in all that takes text. */
export async function furnish(user: TestUser, text: string): Promise<Belongings> {
  const send = async (method: string, path: string, body: unknown, headers?: Record<string, string>) => {
    const answer = await user.request(method, path, { body, headers });
    assert(answer.status < 300, `${method} ${path}: ${JSON.stringify(answer.body)}`);
    return answer.body;
  };
  const { data: video, error } = await user.client.from("videos").insert({ title: text }).select().single();
  assertEquals(error, null);

  const message = { role: "user", content: text };
  const { id: conversation } = await send(
    "POST",
    "/conversations",
    {
      title: text,
      video_id: video!.id,
      metadata: { [text]: text },
      messages: [message, { role: "user", parts: [{ type: "text", text }], name: text, item_id: text }],
    },
    { "idempotency-key": uuid() },
  );
  await send("PATCH", `/conversations/${conversation}`, { summary: text });
  const { id: deleted } = await send("POST", "/conversations", { title: "deleted", messages: [message] });
  const { id: fork } = await send("POST", `/conversations/${deleted}/fork`, { at: 1 });
  await send("PATCH", `/conversations/${fork}`, { title: text });
  await send("DELETE", `/conversations/${deleted}`, undefined);

  const response = `resp_${uuid()}`;
  const about = { input: text, output: [{ type: "message", role: "assistant", content: text }] };
  await send("PUT", `/responses/${response}`, { ...about, model: "m", provider: "p" });
  await send("PUT", `/responses/${response}_2`, {
    ...about,
    model: text,
    provider: text,
    previous_response_id: response,
  });

  const { id: session } = await send("POST", "/sessions", {
    conversation_id: conversation,
    metadata: { [text]: text },
  });
  const events = ["user_message", "ai_message", "ours"].map((event_type) => ({
    event_type,
    content: { text },
    source: text,
    trace_id: text,
  }));
  await send("POST", `/sessions/${session}/events`, { events });
  await send("POST", `/sessions/${session}/end`, { summary: text });
  await send("POST", "/sessions", {});

  const collection = `c_${uuid()}`;
  const documents = ["stored", "failed"].map((id) => ({ id: `${id} ${text}`, version: text, text, [text]: text }));
  await send("POST", `/documents/${collection}/insert_many`, { documents });
  await send("POST", `/documents/${collection}/failures`, { id: documents[1].id, reason: text });
  await send("PUT", `/documents/${collection}/version`, { version: text, expected_version: null });
  return { conversation, fork, response, session, collection };
}
