/** `<data-dir>/stack.env`: how other programs find the running stack. */
import { join } from "node:path";
import type { Stack } from "./stack.ts";

export type StackEnv = Record<string, string>;

export function envOf(stack: Stack): StackEnv {
  return {
    API_URL: stack.apiUrl,
    FUNCTIONS_URL: `${stack.apiUrl}/functions/v1`,
    DB_URL: stack.dbUrl,
    PUBLISHABLE_KEY: stack.publishableKey,
    SECRET_KEY: stack.secretKey,
  };
}

export function formatEnv(env: StackEnv): string {
  return Object.entries(env).map(([name, value]) => `${name}="${value}"\n`).join("");
}

export function parseEnv(text: string): StackEnv {
  return Object.fromEntries([...text.matchAll(/^(\w+)="(.*)"$/gm)].map(([, name, value]) => [name, value]));
}

export function envFile(dataDir: string): string {
  return join(dataDir, "stack.env");
}
