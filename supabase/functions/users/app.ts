import { createApp, only } from "../_shared/app.ts";
import { authenticateAs } from "../_shared/auth.ts";
import { noQuery } from "../_shared/http.ts";
import { NDJSON, streamExport } from "../_shared/ndjson.ts";
import { userId } from "../_shared/schemas.ts";
import * as repo from "./repo.ts";

export const app = createApp("users", () => import("./openapi.ts"))
  .use(authenticateAs(userId))
  .get("/me/export", noQuery, async (c) => {
    const lines = await streamExport(c, (place, signal) => repo.exportPage(c.var.caller, place, signal));
    return c.body(lines, 200, { "content-type": NDJSON });
  })
  .all("/me/export", only("GET", "HEAD"));

export type App = typeof app;
