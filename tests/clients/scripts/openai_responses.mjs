// Responses, with openai for Node and its helper for streams.
import { readFileSync } from "node:fs";
import OpenAI from "openai";
import { given, play } from "./scenario.mjs";

const client = new OpenAI({ baseURL: `${given.url}/openai/v1`, apiKey: given.key });
const { version } = JSON.parse(readFileSync(new URL("../node_modules/openai/package.json", import.meta.url)));

async function plain(model, input) {
  return (await client.responses.create({ model, input })).output_text;
}

async function* stream(model, input) {
  const events = client.responses.stream({ model, input });
  for await (const event of events) {
    if (event.type === "response.output_text.delta") yield event.delta;
  }
  await events.finalResponse();
}

await play(version, plain, stream);
