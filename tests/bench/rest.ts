/** The REST API of the local stack in a process of its own, for the function and the wrappers alike. */
import { startRest } from "../../local/rest.ts";
import { readStack } from "./stack.ts";

const { adminDbUrl, publishableKey, secretKey, jwtSecret, restUrl } = readStack();
const { fetch } = await startRest({
  databaseUrl: adminDbUrl,
  keys: { publishableKey, secretKey, jwtSecret },
  maxRows: 1000,
  restUrl,
});

export default { fetch };
