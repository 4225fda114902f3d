import type { ErrorBody } from "../_shared/errors.ts";

/** The fields of a line, or of what a line is made of. */
export type Fields = { [key: string]: unknown };

/** What is wrong with a line, or with the conversation as a whole. */
export type ImportError = Omit<ErrorBody, "request_id"> & { line?: number };

/** A conversation of a file, as read. */
export interface ImportRecord {
  /** Where it begins, from 1 on: the line of an NDJSON file, the place in a ChatGPT export. */
  line: number;
  id: string | null;
  conversation: Fields;
  messages: Fields[];
  notes: string[];
  /** How much of a ChatGPT conversation was left out, by kind. */
  left_out?: { [kind: string]: number };
  error?: ImportError;
}
