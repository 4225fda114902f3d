/** An error of the gateway itself: JSON, and readable by a browser of any origin. */
export function failure(status: number, code: string, message: string, more: Record<string, unknown> = {}): Response {
  return Response.json({ code, message, ...more }, { status, headers: { "access-control-allow-origin": "*" } });
}
