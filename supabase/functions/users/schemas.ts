import { z } from "zod";
import { answeredTimestamp } from "../_shared/schemas.ts";

export const quota = z.strictObject({
  metric: z.enum(["requests", "writes", "bytes"]).describe(
    "requests: calls of the database. writes: rows added or changed. bytes: their size, before compression.",
  ),
  limit: z.int(),
  used: z.int().describe(
    "Since the day began, UTC, or since there has been a quota. A request that only reads may come late.",
  ),
  resets_at: answeredTimestamp,
}).meta({ id: "Quota" });
export type Quota = z.infer<typeof quota>;
