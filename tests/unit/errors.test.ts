import { assertEquals } from "@std/assert";
import { fromDatabase } from "../../supabase/functions/_shared/errors.ts";

// deno-lint-ignore no-explicit-any -- supabase-js builds it from the same four fields
const raised = (code: string, message: string, details: string | null = null): any => ({
  code,
  message,
  details,
  hint: null,
});

Deno.test("what our SQL raises becomes its status and slug", () => {
  const error = fromDatabase(raised("PT409", "sequence_conflict", "The conversation is at 3."), 409);
  assertEquals(
    [error.status, error.code, error.body("r").details],
    [409, "sequence_conflict", "The conversation is at 3."],
  );
});

Deno.test("a detail that is the JSON of failing paths is answered as those of a body are", () => {
  const details = [{ path: "filters.age.$foo", message: "There is no such operator." }];
  const error = fromDatabase(raised("PT400", "invalid_request", JSON.stringify(details)), 400);
  assertEquals(error.body("r").details, details);
});

Deno.test("a slug that is not part of the API is not passed on", () => {
  const error = fromDatabase(raised("PT409", "select secret from somewhere"), 409);
  assertEquals([error.status, error.code], [500, "internal_error"]);
});

Deno.test("database errors become statuses by their code, and say nothing of their content", () => {
  for (
    const [code, status, slug] of [
      ["23514", 400, "invalid_request"],
      ["22P02", 400, "invalid_request"],
      ["23505", 409, "conflict"],
      ["57014", 503, "database_unavailable"],
      ["PGRST001", 503, "database_unavailable"],
      ["PGRST303", 401, "unauthorized"],
      ["42P01", 500, "internal_error"],
    ] as const
  ) {
    const error = fromDatabase(raised(code, "prose with a confidence", "Failing row contains (confidence)"), 500);
    assertEquals([error.status, error.code], [status, slug], code);
    assertEquals(JSON.stringify(error.body("r")).includes("confidence"), false);
  }
});

Deno.test("no answer at all is database_unavailable", () => {
  const error = fromDatabase(raised("", "TypeError: fetch failed"), 0);
  assertEquals([error.status, error.code], [503, "database_unavailable"]);
});
