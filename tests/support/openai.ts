// OpenAI's own client, pointed at the stack under test.
import OpenAI from "openai";
import { apiUrl, secretKey, type TestUser } from "./stack.ts";

export const baseURL = `${apiUrl}/functions/v1/openai/v1`;

/** As a user's own application has it: their access token is the API key. */
export const openaiOf = (user: TestUser): OpenAI => new OpenAI({ baseURL, apiKey: user.token, maxRetries: 0 });

/** As a backend has it: the secret key, acting for one user. */
export const openaiFor = (userId: string): OpenAI =>
  new OpenAI({ baseURL, apiKey: secretKey, defaultHeaders: { "x-user-id": userId }, maxRetries: 0 });
