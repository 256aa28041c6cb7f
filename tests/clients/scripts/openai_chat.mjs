// Chat completions, with openai for Node.
import { readFileSync } from "node:fs";
import OpenAI from "openai";
import { given, play } from "./scenario.mjs";

const client = new OpenAI({ baseURL: `${given.url}/openai/v1`, apiKey: given.key });
const { version } = JSON.parse(readFileSync(new URL("../node_modules/openai/package.json", import.meta.url)));

async function plain(model, messages) {
  return (await client.chat.completions.create({ model, messages })).choices[0].message.content;
}

async function* stream(model, messages) {
  for await (const chunk of await client.chat.completions.create({ model, messages, stream: true })) {
    const text = chunk.choices[0].delta.content;
    if (text) yield text;
  }
}

await play(version, plain, stream);
