import { AiChatbot } from "../peers/ai_chatbot.ts";
import { wrap } from "../wrap.ts";

export default wrap(AiChatbot);
