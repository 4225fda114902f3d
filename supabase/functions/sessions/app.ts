import { createApp, only } from "../_shared/app.ts";
import { authenticateAs, backendOnly } from "../_shared/auth.ts";
import { idempotencyKey, json, noQuery, param, parse, query, replayHeader, sendJson } from "../_shared/http.ts";
import { large } from "../_shared/turns.ts";
import { userId } from "../_shared/schemas.ts";
import * as repo from "./repo.ts";
import {
  analyticsQuery,
  appendBody,
  auditQuery,
  contextQuery,
  endBody,
  eventsQuery,
  listQuery,
  openBody,
  sessionParam,
  streamHeaders,
  streamQuery,
  unsummarizedQuery,
} from "./schemas.ts";
import { streamEvents } from "./stream.ts";

export const app = createApp("sessions", () => import("./openapi.ts"))
  .use(authenticateAs(userId))
  .post("/", noQuery, json(openBody), async (c) => {
    const { session, created, replayed } = await repo.open(c.var.caller, c.req.valid("json"), idempotencyKey(c));
    return c.json(session, created ? 201 : 200, replayHeader(replayed));
  })
  .get("/", query(listQuery), async (c) => sendJson(c, await repo.list(c.var.caller, c.req.valid("query"))))
  .get(
    "/audit",
    query(auditQuery),
    large,
    async (c) => sendJson(c, await repo.audit(c.var.caller, c.req.valid("query"))),
  )
  .all("/audit", only("GET", "HEAD"))
  .get(
    "/analytics",
    query(analyticsQuery),
    large,
    async (c) => sendJson(c, await repo.analyze(c.var.caller, c.req.valid("query"))),
  )
  .all("/analytics", only("GET", "HEAD"))
  .get(
    "/context",
    query(contextQuery),
    async (c) => sendJson(c, await repo.getContext(c.var.caller, c.req.valid("query"))),
  )
  .all("/context", only("GET", "HEAD"))
  .get("/unsummarized", backendOnly, query(unsummarizedQuery), async (c) => {
    if (c.req.method === "HEAD") only("GET")(); // would take sessions, and tell nobody which
    const taken = await repo.takeUnsummarized(c.var.caller, c.req.valid("query"));
    // Taking changes what the next request is given: no answer is good for two.
    return sendJson(c, taken, 200, { "cache-control": "no-store" });
  })
  .all("/unsummarized", only("GET"))
  .get(
    "/:id",
    noQuery,
    param(sessionParam),
    async (c) => c.json(await repo.get(c.var.caller, c.req.valid("param").id)),
  )
  .post(
    "/:id/end",
    noQuery,
    param(sessionParam),
    json(endBody),
    async (c) => {
      const { id } = c.req.valid("param");
      const { answer, replayed } = await repo.end(c.var.caller, id, c.req.valid("json"), idempotencyKey(c));
      return sendJson(c, answer, 200, replayHeader(replayed));
    },
  )
  .post("/:id/events", noQuery, param(sessionParam), json(appendBody), async (c) => {
    const { id } = c.req.valid("param");
    const { replayed, appended } = await repo.append(c.var.caller, id, c.req.valid("json"), idempotencyKey(c));
    return sendJson(c, appended, 201, replayHeader(replayed));
  })
  .get(
    "/:id/events",
    param(sessionParam),
    query(eventsQuery),
    async (c) => sendJson(c, await repo.listEvents(c.var.caller, c.req.valid("param").id, c.req.valid("query"))),
  )
  .get("/:id/events/stream", param(sessionParam), query(streamQuery), (c) => {
    // An EventSource repeats its URL when it comes back: where it was counts, not where it began.
    const { "last-event-id": lastEventId } = parse(streamHeaders, c.req.header());
    const after = lastEventId ?? c.req.valid("query").after ?? 0;
    return streamEvents(c, c.req.valid("param").id, after, lastEventId !== undefined);
  });

export type App = typeof app;
