/** A failure that the person at the terminal can act on: its message is shown as it is, without a stack trace. */
export class StackError extends Error {
  override name = "StackError";
}
