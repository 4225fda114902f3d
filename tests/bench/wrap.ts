/** What a team writes around a library to have it behind HTTP: two routes, a schema, nothing else. */
import { Hono } from "hono";
import { z } from "zod";
import type { Peer } from "./peers/peer.ts";
import { readStack, type Stack } from "./stack.ts";

const message = z.strictObject({ role: z.enum(["user", "assistant"]), content: z.string() });
const createBody = z.strictObject({ messages: z.array(message) });
const appendBody = z.strictObject({ messages: z.tuple([message, message]) });
const listQuery = z.strictObject({
  limit: z.coerce.number().int().min(1).max(1000),
  order: z.literal("desc"),
});

/** Paths and bodies are those of Threadbase's function. Nobody is authenticated, and a turn is answered with {}. */
export function wrap(Peer: new (stack: Stack) => Pick<Peer, "create" | "append" | "loadLast">) {
  const peer = new Peer(readStack());
  return new Hono()
    .basePath("/conversations")
    .post("/", async (c) => {
      const { messages } = createBody.parse(await c.req.json());
      return c.json({ id: await peer.create(messages) }, 201);
    })
    .post("/:id/messages", async (c) => {
      const [{ content: user }, { content: assistant }] = appendBody.parse(await c.req.json()).messages;
      await peer.append(c.req.param("id"), { user, assistant });
      return c.json({}, 201);
    })
    .get("/:id/messages", async (c) => {
      const { limit } = listQuery.parse(c.req.query());
      return c.json({ data: await peer.loadLast(c.req.param("id"), limit) });
    });
}
