import { z } from "zod";
import { answeredTimestamp, jsonObject, providerItem, text, textOrNone } from "../_shared/schemas.ts";

/** The id that `previous_response_id` names: text of the model's provider. */
const responseId = text(256);

export const responseParam = z.strictObject({ id: responseId });

/** Items of the OpenAI Responses API, kept and answered as they came, whatever their type. */
const items = z.array(providerItem).max(1000);

const input = z.union([z.string(), items]).describe("A string is one user message with one input_text part.");

export const putBody = z.strictObject({
  previous_response_id: responseId.nullish(),
  input,
  output: items,
  model: textOrNone(256),
  provider: textOrNone(256),
});

export const mergeBody = z.strictObject({ input });

/** A stored response, without its items. */
export const response = z.strictObject({
  response_id: z.string(),
  previous_response_id: z.string().nullable(),
  conversation_id: z.guid().describe("The conversation that shows its history, as long as nobody deletes that."),
  model: z.string(),
  provider: z.string(),
  created_at: z.int().describe("Unix time in seconds."),
  updated_at: answeredTimestamp.describe("When it was stored, or replaced last."),
}).meta({ id: "Response" });
export type Response = z.infer<typeof response>;

/** What a model gets: every item of the history, in order. */
export const history = z.strictObject({ input_items: z.array(jsonObject) });
export type History = z.infer<typeof history>;

export const responseWithItems = response.extend(history.shape).meta({ id: "ResponseWithItems" });
