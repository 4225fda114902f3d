/** The API keys and the JWT secret of one data directory: random, and kept there so that sessions survive a restart. */
import { generateApiKey } from "@supabase/lite";
import { join } from "node:path";

export interface Keys {
  publishableKey: string;
  secretKey: string;
  jwtSecret: string;
}

export async function loadKeys(dataDir: string): Promise<Keys> {
  const file = join(dataDir, "keys.json");
  try {
    return JSON.parse(await Deno.readTextFile(file));
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  const keys: Keys = {
    publishableKey: (await generateApiKey("publishable")).key,
    secretKey: (await generateApiKey("secret")).key,
    jwtSecret: crypto.getRandomValues(new Uint8Array(32)).toHex(),
  };
  await Deno.writeTextFile(file, JSON.stringify(keys, null, 2), { mode: 0o600 });
  return keys;
}
