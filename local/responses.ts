/** An error of the gateway itself, as JSON. */
export function failure(status: number, code: string, message: string, more: Record<string, unknown> = {}): Response {
  return Response.json({ code, message, ...more }, { status });
}
