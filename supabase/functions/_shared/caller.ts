import type { SupabaseClient } from "@supabase/supabase-js";
import type { Database } from "./database.types.ts";

/**
 * Who calls, and the client that acts with their rights: everything a handler may know about authentication. Requests
 * of one user share it.
 */
export interface Caller {
  /** A user's client carries their token, so RLS decides. A backend's carries the secret key. */
  readonly supabase: SupabaseClient<Database>;
  readonly isBackend: boolean;
  /** For whom a backend acts (`x-user-id`). Absent for a user: the database takes the token's. */
  readonly userId?: string;
  /** Whose request it is: the token's user, or `userId`. Absent for a backend that acts for nobody. */
  readonly actsFor?: string;
  /** When the user's token expires, in seconds since 1970. Absent for a backend. */
  readonly expiresAt?: number;
}

/** What every handler finds in `c.var`. */
export type AppEnv = { Variables: { caller: Caller; requestId: string; hasTurn?: true } };
