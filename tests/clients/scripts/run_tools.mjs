// The SDKs' own helpers for Node that run a client's tools, whole and streamed; printed as one JSON object.
import Anthropic from "@anthropic-ai/sdk";
import { betaTool } from "@anthropic-ai/sdk/helpers/beta/json-schema";
import OpenAI from "openai";

const given = JSON.parse(process.argv[2]);
const settings = { apiKey: given.key, maxRetries: 0 };
const gpt = new OpenAI({ baseURL: `${given.url}/openai/v1`, ...settings });
const sonnet = new Anthropic({ baseURL: `${given.url}/anthropic`, ...settings });

const number = { type: "integer" };
const schema = { type: "object", properties: { a: number, b: number }, required: ["a", "b"] };
const add = ({ a, b }) => String(a + b);

function asked(helper, stream) {
  return { model: given.model, messages: [{ role: "user", content: `${given.prompt} ${helper} ${stream}` }], stream };
}

async function openai(stream) {
  const tool = { name: "add", description: "adds", parameters: schema, parse: JSON.parse, function: add };
  const tools = [{ type: "function", function: tool }];
  return gpt.chat.completions.runTools({ ...asked("runTools", stream), tools }).finalContent();
}

async function anthropic(stream) {
  const tools = [betaTool({ name: "add", description: "adds", inputSchema: schema, run: add })];
  const message = await sonnet.beta.messages.toolRunner({ ...asked("toolRunner", stream), max_tokens: 256, tools });
  return message.content.map((block) => block.text ?? "").join("");
}

const answers = [];
for (const helper of [openai, anthropic]) for (const stream of [false, true]) answers.push(await helper(stream));
console.log(JSON.stringify(answers));
