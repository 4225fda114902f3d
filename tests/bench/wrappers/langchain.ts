import { LangChain } from "../peers/langchain.ts";
import { wrap } from "../wrap.ts";

export default wrap(LangChain);
