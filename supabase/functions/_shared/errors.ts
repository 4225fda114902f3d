import type { PostgrestError } from "@supabase/supabase-js";
import type { ContentfulStatusCode } from "hono/utils/http-status";
import { escapeUnits } from "./json.ts";

/** The body of every answer that is not 2xx. */
export interface ErrorBody {
  /** What went wrong, for programs: a slug that never changes, such as `conversation_not_found`. */
  code: string;
  /** The same for people. */
  message: string;
  /** Whether the same request may succeed later. Where not, repeating it helps nobody. */
  retryable: boolean;
  /** What exactly: for `invalid_request` the failing paths, for `quota_exceeded` the quota, elsewhere a sentence. */
  details?: string | { path: string; message: string; limit?: string }[];
  /** What to do about it. */
  hint?: string;
  request_id: string;
}

/** What a client should do with an error: its status, whether the same request may succeed later, and a sentence. */
interface Meaning {
  status: ContentfulStatusCode;
  /**
   * Whether the same request, sent again as it is, may be answered otherwise without anybody doing anything about it. What it
   * did the first time may be unknown: an `Idempotency-Key` makes that no matter.
   */
  retryable?: true;
  message: string;
}

/**
 * The taxonomy of errors; docs/errors.md is this table. A slug that is not here is not part of the API and becomes
 * `internal_error`.
 */
export const ERRORS = {
  invalid_json: { status: 400, message: "The request body is not valid JSON." },
  invalid_request: { status: 400, message: "The request is not valid." },
  user_id_required: { status: 400, message: "This call needs to know for which user it acts." },
  idempotency_key_useless: {
    status: 400,
    message: "The request repeats safely by itself, and takes no Idempotency-Key.",
  },
  unauthorized: { status: 401, message: "A valid access token or the secret key is required." },
  forbidden: { status: 403, message: "The route is for backends: it needs the secret key." },
  not_found: { status: 404, message: "There is no such route." },
  conversation_not_found: { status: 404, message: "There is no such conversation." },
  message_not_found: { status: 404, message: "There is no such message in the conversation." },
  session_not_found: { status: 404, message: "There is no such session." },
  item_not_found: { status: 404, message: "There is no such item in the conversation." },
  response_not_found: { status: 404, message: "There is no such response." },
  document_not_found: { status: 404, message: "There is no such document." },
  index_not_found: { status: 404, message: "There is no such index." },
  user_not_found: { status: 404, message: "There is no such user." },
  video_not_found: { status: 404, message: "There is no such video." },
  erasure_not_found: { status: 404, message: "There is no such erasure." },
  method_not_allowed: { status: 405, message: "The route does not know this method." },
  conflict: { status: 409, message: "The request collides with what is stored." },
  sequence_conflict: { status: 409, message: "The conversation has moved on." },
  idempotency_mismatch: { status: 409, message: "The idempotency key belongs to another request." },
  previous_response_not_found: { status: 409, message: "The previous response is not stored, or not any more." },
  document_exists: { status: 409, message: "There is another document of this id." },
  version_conflict: { status: 409, message: "The version is not the expected one." },
  index_limit: { status: 409, message: "There are as many indexes as there may be." },
  fork_limit: { status: 409, message: "The line of forks is as long as it may be." },
  item_conflict: { status: 409, message: "The item id belongs to another message." },
  budget_too_small: { status: 409, message: "The newest turn does not fit." },
  history_too_large: { status: 409, message: "The history is too large to be answered at once." },
  payload_too_large: { status: 413, message: "The request body is larger than 4 MiB." },
  unsupported_media_type: { status: 415, message: "The request body must be application/json, uncompressed." },
  quota_exceeded: { status: 429, retryable: true, message: "The user's quota of the day is used up." },
  user_busy: { status: 429, retryable: true, message: "Other large requests of the user are under way." },
  internal_error: { status: 500, message: "Something went wrong on our side." },
  database_unavailable: { status: 503, retryable: true, message: "The database does not answer right now." },
  database_busy: { status: 503, retryable: true, message: "The database has as many connections as it may have." },
  conversation_busy: { status: 503, retryable: true, message: "Other requests are writing there right now." },
  timeout: { status: 503, retryable: true, message: "The database took longer than a request may." },
  storage_full: { status: 507, message: "The database has no room left: its operator has to make some." },
} as const satisfies Record<string, Meaning>;

export type ErrorCode = keyof typeof ERRORS;

/** When to come again, in seconds: clients add their own jitter. A quota is one of a day, UTC. */
function retryAfter(code: ErrorCode): string {
  if (code !== "quota_exceeded") return "1";
  return `${Math.ceil(86_400 - Date.now() / 1000 % 86_400)}`;
}

/** An answer that is not 2xx, thrown from wherever it is noticed and written by the app's `onError`. */
export class ApiError extends Error {
  override readonly name = "ApiError";

  constructor(
    readonly status: ContentfulStatusCode,
    readonly code: ErrorCode,
    readonly extra: Pick<ErrorBody, "details" | "hint"> & { headers?: Record<string, string>; cause?: unknown } = {},
  ) {
    super(ERRORS[code].message, { cause: extra.cause });
  }

  get retryable(): boolean {
    return "retryable" in ERRORS[this.code];
  }

  /**
   * `x-should-retry` is what OpenAI's clients ask before they repeat a 409, a 429 or a 5xx of their own accord. They do not wait
   * for the end of a day.
   */
  get headers(): Record<string, string> {
    return {
      ...(this.retryable && { "retry-after": retryAfter(this.code) }),
      ...((!this.retryable || this.code === "quota_exceeded") && { "x-should-retry": "false" }),
      ...this.extra.headers,
    };
  }

  body(requestId: string): ErrorBody {
    const { details, hint } = this.extra;
    return {
      code: this.code,
      message: this.message,
      retryable: this.retryable,
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
const DATABASE_ERRORS: [prefix: string, code: ErrorCode][] = [
  ["23502", "invalid_request"], // not null
  ["23514", "invalid_request"], // check: the truth behind a rule that zod did not see
  ["23", "conflict"], // unique, foreign key
  ["22", "invalid_request"], // a value its type cannot hold
  ["54", "invalid_request"], // beyond a limit of the database's own, such as JSON nested deeper than its stack
  ["40", "conversation_busy"], // deadlock, serialization: the same request may succeed the next time
  ["55P03", "conversation_busy"], // a lock that was not to be had in time
  ["08", "database_unavailable"], // connection
  ["53100", "storage_full"],
  ["53300", "database_busy"],
  ["53", "database_unavailable"], // out of memory
  ["57014", "timeout"], // statement_timeout
  ["57", "database_unavailable"], // shutting down, or a backend that was killed
  ["PGRST00", "database_unavailable"], // PostgREST cannot reach the database
  ["PGRST301", "unauthorized"], // the token expired on its way
  ["PGRST302", "unauthorized"],
  ["PGRST303", "unauthorized"],
];

/** What ties a row to its user: where it does not hold, the token has outlived them. */
const OWNER_KEYS = /"(conversations|videos|conversation_states)_user_id_fkey"/;

/** A detail is a sentence, or the JSON of failing paths: `[{"path": "filters.age.$foo", "message": "…"}]`. */
function readDetails(detail: string): ErrorBody["details"] {
  return detail.startsWith("[{") ? JSON.parse(escapeUnits(detail)) : detail;
}

/** Whether the database was asked in vain: the next call would wait as long. */
export function isTimeout(error: unknown): boolean {
  return error instanceof ApiError && (error.extra.cause as { code?: string } | undefined)?.code === "PGRST003";
}

/** What a failed database call means to the caller. `status` is the HTTP status of the REST answer, 0 without one. */
export function fromDatabase(error: PostgrestError, status: number): ApiError {
  if (/^PT\d{3}$/.test(error.code) && error.message in ERRORS) {
    // Raised by our SQL: the status in the code, the slug as the message.
    return new ApiError(Number(error.code.slice(2)) as ContentfulStatusCode, error.message as ErrorCode, {
      details: error.details ? readDetails(error.details) : undefined,
      hint: error.hint ?? undefined,
    });
  }
  const [, known] = error.code === "23503" && OWNER_KEYS.test(error.message)
    ? ["", "unauthorized" as const]
    : DATABASE_ERRORS.find(([prefix]) => error.code?.startsWith(prefix)) ?? [];
  const code = known ?? (status === 0 || status === 503 ? "database_unavailable" : "internal_error");
  // `title of conversations has more than 1,000 characters.`: our checks name the rule, and quote nothing.
  const details = error.code === "23514" && /^[a-z_]+ of [a-z_]+ /.test(error.message) ? error.message : undefined;
  return new ApiError(ERRORS[code].status, code, { cause: error, details });
}
