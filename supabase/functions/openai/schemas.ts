import { z } from "zod";
import { ApiError } from "../_shared/errors.ts";
import { type JsonObject, unstorable } from "../_shared/json.ts";
import { integer, jsonObject, providerItem, text } from "../_shared/schemas.ts";

// The shapes of the OpenAI API, of which the official clients know nothing but these.
// https://platform.openai.com/docs/api-reference/conversations

// ---- ids ------------------------------------------------------------------------------------------------------------

/**
 * `conv_` and the uuid without dashes, as Postgres reads it. As at OpenAI, an id that does not begin with `conv` is 400;
 * one that does and is no id of ours cannot exist here: 404.
 */
const conversationId = z.string()
  .startsWith("conv", "Expected an ID that begins with 'conv'.")
  .transform((id): string => {
    const [, uuid] = /^conv_([0-9a-f]{32})$/.exec(id) ?? [];
    if (!uuid) throw new ApiError(404, "conversation_not_found");
    return uuid;
  });

/** Every id that occurs in a path. */
export const ids = z.strictObject({ conversation_id: conversationId, item_id: text(256), response_id: text(256) });
export const conversationParam = ids.pick({ conversation_id: true });
export const itemParam = ids.pick({ conversation_id: true, item_id: true });
export const responseParam = ids.pick({ response_id: true });

// ---- metadata -------------------------------------------------------------------------------------------------------

const MAX_METADATA_PAIRS = 16;

/** Strings only, at most 16 pairs of 64 and 512 characters: OpenAI's limits. */
const metadata = jsonObject.superRefine((value, context) => {
  const keys = Object.keys(value);
  if (keys.length > MAX_METADATA_PAIRS) {
    context.addIssue({ code: "custom", message: `Expected at most ${MAX_METADATA_PAIRS} pairs.` });
  }
  for (const key of keys) {
    const issue = (message: string) => context.addIssue({ code: "custom", path: [key], message });
    if (key.length > 64) issue("Expected a key of at most 64 characters.");
    const problem = unstorable(key);
    if (problem) issue(problem);
    const pair = value[key];
    if (typeof pair !== "string") issue("Expected a string.");
    else if (pair.length > 512) issue("Expected at most 512 characters.");
  }
});

// ---- conversations --------------------------------------------------------------------------------------------------

export const conversation = z.strictObject({
  id: z.string(),
  object: z.literal("conversation"),
  created_at: z.int().describe("Unix time in seconds."),
  metadata: jsonObject,
}).meta({ id: "OpenAIConversation" });
export type Conversation = z.infer<typeof conversation>;

export const deletedConversation = z.strictObject({
  id: z.string(),
  object: z.literal("conversation.deleted"),
  deleted: z.literal(true),
});

// ---- items ----------------------------------------------------------------------------------------------------------

const MAX_ITEMS = 1000;
const INPUT_ROLES = ["user", "assistant", "system", "developer"];

/**
 * Anything that the Responses API takes as input, types that are not known yet included: kept as it comes, and read as
 * far as finding, fitting and pairing it needs.
 */
export const itemInput = providerItem.superRefine((item, context) => {
  const issue = (field: string, message: string) => context.addIssue({ code: "custom", path: [field], message });
  if (item.id != null && !(typeof item.id === "string" && /^[\w-]{1,256}$/.test(item.id))) {
    issue("id", "Expected an ID of 1 to 256 letters, numbers, underscores or dashes.");
  }
  const type = item.type ?? (item.role === undefined ? undefined : "message");
  if (typeof type !== "string" || type.length < 1 || type.length > 64) {
    return issue("type", "Expected the type of an item.");
  }
  if (type === "item_reference") {
    return issue("type", "Nothing is stored for a reference: send the item itself.");
  }
  if (type !== "message") return;
  if (!INPUT_ROLES.includes(item.role as string)) issue("role", `Expected one of: ${INPUT_ROLES.join(", ")}.`);
  const isContent = typeof item.content === "string" ||
    (Array.isArray(item.content) &&
      item.content.every((part) => jsonObject.safeParse(part).success));
  if (!isContent) issue("content", "Expected a string, or an array of content parts.");
}).meta({ id: "OpenAIItemInput" });

/** An item as it was given, with an `id`; messages with `type`, `status` and an array of content parts. */
export const item = jsonObject.meta({
  id: "OpenAIItem",
  type: "object",
  properties: { id: { type: "string" }, type: { type: "string" } },
  required: ["id", "type"],
});
export type Item = JsonObject & { id: string; type: string };

export const itemList = z.strictObject({
  object: z.literal("list"),
  data: z.array(item),
  first_id: z.string().nullable(),
  last_id: z.string().nullable().describe("What to send as after for the next page."),
  has_more: z.boolean(),
}).meta({ id: "OpenAIItemList" });
export type ItemList = Omit<z.infer<typeof itemList>, "data"> & { data: Item[] };

export const createBody = z.strictObject({
  items: z.array(itemInput).max(MAX_ITEMS).nullish(),
  metadata: metadata.nullish(),
});

export const updateBody = z.strictObject({ metadata: metadata.nullable().describe("Replaces the one there.") });

/** More than OpenAI's 20: its own agents send 32 items after a turn of 15 parallel calls. */
export const itemsBody = z.strictObject({ items: z.array(itemInput).min(1).max(MAX_ITEMS) });

// ---- responses ------------------------------------------------------------------------------------------------------

/**
 * A response as far as it is stored. What only the model's own API knows has the value that it has there by default, so
 * that typed clients find every field.
 */
export const response = z.strictObject({
  id: z.string(),
  object: z.literal("response"),
  created_at: z.int().describe("Unix time in seconds."),
  status: z.enum(["completed", "incomplete"]),
  model: z.string(),
  output: z.array(item),
  previous_response_id: z.string().nullable(),
  conversation: z.strictObject({ id: z.string() }).nullable().describe("Where its items are."),
  error: z.null(),
  incomplete_details: z.null(),
  instructions: z.null(),
  metadata: z.strictObject({}),
  parallel_tool_calls: z.literal(true),
  temperature: z.null(),
  tool_choice: z.literal("auto"),
  tools: z.tuple([]),
  top_p: z.null(),
}).meta({ id: "OpenAIResponse" });
export type Response = Omit<z.infer<typeof response>, "output"> & { output: Item[] };

export const deletedResponse = z.strictObject({
  id: z.string(),
  object: z.literal("response"),
  deleted: z.literal(true),
});

// ---- queries --------------------------------------------------------------------------------------------------------

/** The query parameters that may be repeated, for `query` of ../_shared/http.ts. */
export const LISTS = ["include", "include[]"];

/** Accepted for the clients that send it, without effect: an answer always has everything that is stored. */
const included = z.array(text(256)).optional();
const include = { include: included, "include[]": included };

export const includeQuery = z.strictObject(include);

/** What the SDK knows to send when it retrieves a response. Nothing is streamed that happened before. */
export const responseQuery = z.strictObject({
  stream: z.literal("false").optional(),
  include_obfuscation: z.enum(["true", "false"]).optional(),
  ...include,
});

export const listQuery = z.strictObject({
  limit: integer(1, 100).default(20),
  order: z.enum(["asc", "desc"]).default("desc"),
  after: text(256).optional().describe("The id of the last item of the page before."),
  ...include,
});
