import { AiChatbot } from "./ai_chatbot.ts";
import { Jsonb } from "./jsonb.ts";
import { LangChain } from "./langchain.ts";
import { LangGraph } from "./langgraph.ts";
import { Limit } from "./limit.ts";
import type { Stack } from "../stack.ts";
import { connect, type Peer } from "./peer.ts";
import { Plano } from "./plano.ts";
import { Threadbase } from "./threadbase.ts";

/** Threadbase first, the bare limit next to it. */
export const peers: (new (stack: Stack) => Peer)[] = [
  Threadbase,
  Limit,
  LangGraph,
  LangChain,
  Plano,
  Jsonb,
  AiChatbot,
];

/** Makes the tables of every system, or empties them. */
export async function emptyTables(stack: Stack): Promise<void> {
  const admin = connect(stack.adminDbUrl);
  const { rows: [{ first }] } = await admin.query("select to_regnamespace('bench') is null as first");
  if (first) {
    await admin.query("create schema bench; create schema langgraph; grant all on schema bench, langgraph to postgres");
  }
  for (const Peer of peers) {
    await using peer = new Peer(stack);
    if (first) await peer.setUp();
    else if (peer.tables.length > 0) await admin.query(`truncate ${peer.tables.join(", ")} cascade`);
  }
  await admin.end();
}
