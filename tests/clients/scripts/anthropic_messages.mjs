// Messages, with @anthropic-ai/sdk and its helper for streams.
import { readFileSync } from "node:fs";
import Anthropic from "@anthropic-ai/sdk";
import { given, play } from "./scenario.mjs";

const client = new Anthropic({ baseURL: `${given.url}/anthropic`, apiKey: given.key });
const manifest = new URL("../node_modules/@anthropic-ai/sdk/package.json", import.meta.url);
const { version } = JSON.parse(readFileSync(manifest));

async function plain(model, messages) {
  return (await client.messages.create({ model, max_tokens: 8000, messages })).content.at(-1).text;
}

async function* stream(model, messages) {
  const events = client.messages.stream({ model, max_tokens: 8000, messages });
  for await (const event of events) {
    if (event.type === "content_block_delta" && event.delta.type === "text_delta") yield event.delta.text;
  }
  await events.finalMessage();
}

await play(version, plain, stream);
