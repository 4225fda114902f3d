import { z } from "zod";
import type { ApiError, ErrorCode } from "../_shared/errors.ts";

/** The body of every answer that is not 2xx: OpenAI's, which its clients turn into their own exceptions. */
export const errorBody = z.strictObject({
  error: z.strictObject({
    message: z.string(),
    type: z.enum(["invalid_request_error", "insufficient_quota", "requests", "server_error"]),
    param: z.string().nullable().describe("The parameter at fault."),
    code: z.string(),
  }),
}).meta({ id: "OpenAIError" });

/** Where OpenAI has a code for it; the others are Threadbase's own. */
const CODES: Partial<Record<ErrorCode, string>> = {
  unauthorized: "invalid_api_key",
  method_not_allowed: "method_not_supported",
  invalid_request: "invalid_value",
  quota_exceeded: "insufficient_quota",
  user_busy: "rate_limit_exceeded",
};

/** An error as OpenAI would say it. The request id is in the `x-request-id` header. */
export function toErrorBody(error: ApiError): z.infer<typeof errorBody> {
  const { details, hint, cause } = error.extra;
  const code = CODES[error.code] ?? error.code;
  const isQuota = error.code === "quota_exceeded";
  const type = isQuota
    ? "insufficient_quota"
    : error.status === 429
    ? "requests"
    : error.status >= 500
    ? "server_error"
    : "invalid_request_error";
  if (!Array.isArray(details) || isQuota) {
    const sentence = Array.isArray(details) ? details[0].message : details;
    const message = [error.message, sentence, hint].filter(Boolean).join(" ");
    return { error: { message, type, param: null, code } };
  }
  const [{ path: param, message }] = details;
  const issue = cause instanceof z.ZodError ? describeIssue(cause.issues[0]) : undefined;
  return {
    error: {
      message: issue ? `${issue.prefix}: '${param}'.` : `Invalid '${param}': ${message}`,
      type,
      param,
      code: issue?.code ?? code,
    },
  };
}

/** The two mistakes that OpenAI tells apart from a wrong value. */
function describeIssue(issue: z.core.$ZodIssue): { prefix: string; code: string } | undefined {
  if (issue.code === "unrecognized_keys") return { prefix: "Unknown parameter", code: "unknown_parameter" };
  if (issue.input === undefined) {
    return { prefix: "Missing required parameter", code: "missing_required_parameter" };
  }
}
