import { LangGraph } from "../peers/langgraph.ts";
import { wrap } from "../wrap.ts";

export default wrap(LangGraph);
