import { assertEquals } from "@std/assert";
import { ApiError } from "../../supabase/functions/_shared/errors.ts";
import { toErrorBody } from "../../supabase/functions/openai/errors.ts";

Deno.test("a failure of ours is a server_error, and says nothing of its cause", () => {
  for (const [status, code] of [[500, "internal_error"], [503, "database_unavailable"]] as const) {
    const error = new ApiError(status, code, { cause: new Error("secret") });
    assertEquals(toErrorBody(error), { error: { message: error.message, type: "server_error", param: null, code } });
  }
});

Deno.test("details and hint are part of the message", () => {
  const { error } = toErrorBody(new ApiError(409, "item_conflict", { details: "It is taken.", hint: "Use another." }));
  assertEquals(error, {
    message: "The item id belongs to another message. It is taken. Use another.",
    type: "invalid_request_error",
    param: null,
    code: "item_conflict",
  });
});
