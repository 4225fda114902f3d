import { AiChatbot } from "./ai_chatbot.ts";
import { Jsonb } from "./jsonb.ts";
import { LangChain } from "./langchain.ts";
import { LangGraph } from "./langgraph.ts";
import { Limit } from "./limit.ts";
import type { Peer, Stack } from "./peer.ts";
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
