import type { PostgrestError } from "@supabase/supabase-js";
import type { ContentfulStatusCode } from "hono/utils/http-status";

/** The body of every answer that is not 2xx. */
export interface ErrorBody {
  /** What went wrong, for programs: a slug that never changes, such as `conversation_not_found`. */
  code: string;
  /** The same for people. */
  message: string;
  /** What exactly: for `invalid_request` the failing paths, elsewhere a sentence. */
  details?: string | { path: string; message: string }[];
  /** What to do about it. */
  hint?: string;
  request_id: string;
}

/** The sentence for each slug. A slug that is not here is not part of the API and becomes `internal_error`. */
const MESSAGES = {
  invalid_json: "The request body is not valid JSON.",
  invalid_request: "The request is not valid.",
  user_id_required: "This call needs to know for which user it acts.",
  unauthorized: "A valid access token or the secret key is required.",
  forbidden: "The route is for backends: it needs the secret key.",
  not_found: "There is no such route.",
  conversation_not_found: "There is no such conversation.",
  message_not_found: "There is no such message in the conversation.",
  session_not_found: "There is no such session.",
  item_not_found: "There is no such item in the conversation.",
  response_not_found: "There is no such response.",
  previous_response_not_found: "The previous response is not stored, or not any more.",
  document_not_found: "There is no such document.",
  index_not_found: "There is no such index.",
  user_not_found: "There is no such user.",
  video_not_found: "There is no such video.",
  erasure_not_found: "There is no such erasure.",
  method_not_allowed: "The route does not know this method.",
  conflict: "The request collides with what is stored.",
  sequence_conflict: "The conversation has moved on.",
  idempotency_mismatch: "The idempotency key belongs to another request.",
  document_exists: "There is another document of this id.",
  version_conflict: "The version is not the expected one.",
  index_limit: "There are as many indexes as there may be.",
  item_conflict: "The item id belongs to another message.",
  budget_too_small: "The newest turn does not fit.",
  history_too_large: "The history is too large to be answered at once.",
  payload_too_large: "The request body is larger than 4 MiB.",
  unsupported_media_type: "The request body must be application/json, uncompressed.",
  internal_error: "Something went wrong on our side.",
  database_unavailable: "The database does not answer right now.",
} as const;

export type ErrorCode = keyof typeof MESSAGES;

/** An answer that is not 2xx, thrown from wherever it is noticed and written by the app's `onError`. */
export class ApiError extends Error {
  override readonly name = "ApiError";

  constructor(
    readonly status: ContentfulStatusCode,
    readonly code: ErrorCode,
    readonly extra: Pick<ErrorBody, "details" | "hint"> & { headers?: Record<string, string>; cause?: unknown } = {},
  ) {
    super(MESSAGES[code], { cause: extra.cause });
  }

  body(requestId: string): ErrorBody {
    const { details, hint } = this.extra;
    return {
      code: this.code,
      message: this.message,
      ...(details && { details }),
      ...(hint && { hint }),
      request_id: requestId,
    };
  }
}

/**
 * SQLSTATEs and PostgREST codes that are not our own `PTxyz`, by prefix, first match wins.
 *
 * @see https://www.postgresql.org/docs/current/errcodes-appendix.html
 * @see https://docs.postgrest.org/en/stable/references/errors.html
 */
const DATABASE_ERRORS: [prefix: string, status: ContentfulStatusCode, code: ErrorCode][] = [
  ["23502", 400, "invalid_request"], // not null
  ["23514", 400, "invalid_request"], // check: the truth behind a rule that zod did not see
  ["23", 409, "conflict"], // unique, foreign key
  ["22", 400, "invalid_request"], // a value its type cannot hold
  ["54", 400, "invalid_request"], // beyond a limit of the database's own, such as JSON nested deeper than its stack
  ["40", 503, "database_unavailable"], // deadlock, serialization: the same request may succeed the next time
  ["55P03", 503, "database_unavailable"], // lock not available
  ["08", 503, "database_unavailable"], // connection
  ["53", 503, "database_unavailable"], // out of connections, memory or disk
  ["57", 503, "database_unavailable"], // shutting down, cancelled, statement time-out
  ["PGRST00", 503, "database_unavailable"], // PostgREST cannot reach the database
  ["PGRST301", 401, "unauthorized"], // the token expired on its way
  ["PGRST302", 401, "unauthorized"],
  ["PGRST303", 401, "unauthorized"],
];

/** A detail is a sentence, or the JSON of failing paths: `[{"path": "filters.age.$foo", "message": "…"}]`. */
function readDetails(detail: string): ErrorBody["details"] {
  return detail.startsWith("[{") ? JSON.parse(detail) : detail;
}

/** Whether the database was asked in vain: the next call would wait as long. */
export function isTimeout(error: unknown): boolean {
  return error instanceof ApiError && (error.extra.cause as { code?: string } | undefined)?.code === "PGRST003";
}

/** What a failed database call means to the caller. `status` is the HTTP status of the REST answer, 0 without one. */
export function fromDatabase(error: PostgrestError, status: number): ApiError {
  if (/^PT\d{3}$/.test(error.code) && error.message in MESSAGES) {
    // Raised by our SQL: the status in the code, the slug as the message.
    return new ApiError(Number(error.code.slice(2)) as ContentfulStatusCode, error.message as ErrorCode, {
      details: error.details ? readDetails(error.details) : undefined,
      hint: error.hint ?? undefined,
    });
  }
  const known = DATABASE_ERRORS.find(([prefix]) => error.code?.startsWith(prefix));
  if (known) return new ApiError(known[1], known[2], { cause: error });
  if (status === 0 || status === 503) return new ApiError(503, "database_unavailable", { cause: error });
  return new ApiError(500, "internal_error", { cause: error });
}
