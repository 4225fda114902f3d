/**
 * The deployed function, except that its calls of PostgREST are answered in this process: by a pool like those of the
 * peers' wrappers, as role authenticated with the user's claims.
 */
import type pg from "pg";
import { Statement } from "../peers/peer.ts";
import { connectAsUser } from "../peers/threadbase.ts";
import { readStack } from "../stack.ts";

const pool: pg.Pool = connectAsUser(readStack());
const statements = new Map<string, Statement<{ value: string }>>();

globalThis.fetch = async (input, init) => {
  const { pathname } = new URL(input instanceof Request ? input.url : input);
  const name = pathname.replace("/rest/v1/rpc/", "");
  const values: Record<string, unknown> = JSON.parse(init!.body as string);
  const parameters = Object.keys(values).map((key, i) => `${key} => $${i + 1}`).join(", ");
  const sql = `select public.${name}(${parameters})::text as value`;
  let statement = statements.get(sql);
  if (!statement) statements.set(sql, statement = new Statement(pool, sql));
  const [{ value }] = await statement.run(
    ...Object.values(values).map((value) => typeof value === "object" ? JSON.stringify(value) : value),
  );
  return new Response(value, { headers: { "content-type": "application/json" } });
};

const { app } = await import("../../../supabase/functions/conversations/app.ts");
export default app;
