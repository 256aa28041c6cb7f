// Vercel's AI SDK, over each of the APIs that it speaks.
import { readFileSync } from "node:fs";
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { generateText, streamText } from "ai";
import { given, play } from "./scenario.mjs";

globalThis.AI_SDK_LOG_WARNINGS = false;
const openai = createOpenAI({ baseURL: `${given.url}/openai/v1`, apiKey: given.key });
const anthropic = createAnthropic({ baseURL: `${given.url}/anthropic/v1`, apiKey: given.key });
const model = { responses: openai.responses, chat: openai.chat, anthropic }[given.surface];
const { version } = JSON.parse(readFileSync(new URL("../node_modules/ai/package.json", import.meta.url)));

class APICallError extends Error {}

// What it makes of an answer, and sends with the next turn: over Responses, its id.
const answers = new Map();

function settings(name, messages) {
  const said = (each) => (each.role === "assistant" ? answers.get(each.content) : [each]);
  return { model: model(name), messages: messages.flatMap(said) };
}

function failed(error) {
  const last = error.lastError ?? error;
  throw Object.assign(new APICallError(last.message ?? last.error?.message), { status: last.statusCode ?? null });
}

async function plain(name, messages) {
  const { text, response } = await generateText(settings(name, messages)).catch(failed);
  answers.set(text, response.messages);
  return text;
}

async function* stream(name, messages) {
  const result = streamText({ ...settings(name, messages), onError() {} });
  let text = "";
  for await (const part of result.fullStream) {
    if (part.type === "error") failed(part.error);
    if (part.type === "text-delta") {
      text += part.text;
      yield part.text;
    }
  }
  answers.set(text, (await result.response).messages);
}

await play(version, plain, stream);
