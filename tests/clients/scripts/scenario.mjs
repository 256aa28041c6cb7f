// scenario.py, for Node: the same calls, the same JSON.
export const given = JSON.parse(process.argv[2]);

const failing = {
  "unknown model": ["nobody", "hello"],
  "rate limit": [given.failing, "[[err:429]]"],
  "refused key": [given.failing, "[[err:401]]"],
  "too long": [given.failing, "[[errtype:context]]"],
  "breaks off": [given.failing, "[[mid:cutalways]]"],
};
const user = (text) => ({ role: "user", content: text });

export async function play(version, plain, stream) {
  const { mark } = given;

  async function pieces(model, messages) {
    const texts = [];
    for await (const text of stream(model, messages)) texts.push(text);
    return texts;
  }

  async function chat(agent) {
    const messages = [];
    for (let turn = 0; turn < 3; turn++) {
      messages.push(user(`turn ${turn} of ${mark} with ${agent} [[history]]`));
      const content = turn === 1 ? (await pieces(agent, messages)).join("") : await plain(agent, messages);
      messages.push({ role: "assistant", content });
    }
    return messages.filter(({ role }) => role === "assistant").map(({ content }) => content);
  }

  async function failure([model, text], streamed) {
    const messages = [user(`${text} for ${mark} ${streamed ? "streamed" : "plain"}`)];
    try {
      return streamed ? (await pieces(model, messages)).join("") : await plain(model, messages);
    } catch (error) {
      return { kind: error.constructor.name, status: error.status ?? null, message: String(error.message) };
    }
  }

  async function each(names, act) {
    const found = {};
    for (const name of names) found[name] = await act(name);
    return found;
  }

  // What fails is tried again, after a while: the others need not wait for that.
  const fail = (streamed) =>
    Promise.all(Object.keys(failing).map(async (name) => [name, await failure(failing[name], streamed)]));
  const failed = Promise.all([fail(false), fail(true)]);
  const result = {
    version,
    plain: await each(given.agents, (agent) => plain(agent, [user(`plain ${mark}`)])),
    streamed: await each(given.agents, (agent) => pieces(agent, [user(`[[long:30]] ${mark}`)])),
    chats: await each(given.chatting, chat),
  };
  [result.failures, result["streamed failures"]] = (await failed).map(Object.fromEntries);
  console.log(JSON.stringify(result));
}
