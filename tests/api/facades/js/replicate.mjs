// Runs Replicate's JavaScript client against the facade whose address and key are the arguments, and
// prints what it got as one JSON object: check → result, or {error} if it threw.

import Replicate, { parseProgressFromLogs, validateWebhook } from "replicate";
import { createHmac } from "node:crypto";

const [, , base, auth] = process.argv;
const baseUrl = `${base}/replicate/v1`;
const replicate = new Replicate({ auth, baseUrl, useFileOutput: true });

const FLUX = "black-forest-labs/flux-schnell";
const PRO = "black-forest-labs/flux-1.1-pro";
const LLAMA = "meta/meta-llama-3-8b-instruct";

const start = async (output) => {
  const bytes = new Uint8Array(await (await output.blob()).arrayBuffer());
  return [...bytes.slice(1, 4)].map((byte) => String.fromCharCode(byte)).join("");
};

const checks = {
  async run() {
    return await start(await replicate.run(PRO, { input: { prompt: "js run" } }));
  },
  async runList() {
    const output = await replicate.run(FLUX, { input: { prompt: "js list", num_outputs: 2 } });
    return output.length;
  },
  async runVersion() {
    const version = (await replicate.models.get("black-forest-labs", "flux-schnell")).latest_version;
    const output = await replicate.run(`${FLUX}:${version.id}`, { input: { prompt: "js version" } });
    return output.length;
  },
  async runPolling() {
    const input = { prompt: "[[emu:predict=0.4]] js polling" };
    return await start(await replicate.run(PRO, { input, wait: { mode: "poll", interval: 50 } }));
  },
  async runWaitInVain() {
    const input = { prompt: "[[emu:predict=1.3]] js in vain" };
    return await start(await replicate.run(PRO, { input, wait: { mode: "block", timeout: 1 } }));
  },
  async runText() {
    return (await replicate.run(LLAMA, { input: { prompt: "tell me" } })).join("");
  },
  async runFailed() {
    return await replicate.run(PRO, { input: { prompt: "[[emu:nsfw]] js" } });
  },
  async stream() {
    const events = [];
    for await (const event of replicate.stream(LLAMA, { input: { prompt: "js stream" } })) {
      events.push(event);
    }
    const words = events.filter((event) => event.event === "output").map((event) => event.data);
    return [words.join(""), events.at(-1).event];
  },
  async createAndWait() {
    const input = { prompt: "[[emu:predict=0.3]] js wait" };
    const made = await replicate.predictions.create({ model: PRO, input });
    const done = await replicate.wait(made, { interval: 50 });
    return [made.status !== "succeeded", done.status, parseProgressFromLogs(done).percentage];
  },
  async cancel() {
    const input = { prompt: "[[emu:predict=60]] js cancel" };
    const made = await replicate.predictions.create({ model: PRO, input });
    return (await replicate.predictions.cancel(made.id)).status;
  },
  async list() {
    let count = 0;
    for await (const page of replicate.paginate(replicate.predictions.list)) {
      count += page.length;
    }
    return count > 5;
  },
  async files() {
    const made = await replicate.files.create(new Blob(["words"], { type: "text/plain" }), {
      kind: "test",
    });
    const found = await replicate.files.get(made.id);
    const listed = (await replicate.files.list()).results.some((file) => file.id === made.id);
    const deleted = await replicate.files.delete(made.id);
    return [found.content_type, found.size, made.metadata, listed, deleted];
  },
  async fileInput() {
    const image = new Blob([new Uint8Array([1, 2, 3])], { type: "image/png" });
    const input = { prompt: "js file", image_prompt: image };
    const made = await replicate.predictions.create({ model: PRO, input });
    return made.input.image_prompt.startsWith(`${baseUrl}/files/`);
  },
  async browse() {
    const model = await replicate.models.get("stability-ai", "sdxl");
    const version = await replicate.models.versions.get(
      "stability-ai",
      "sdxl",
      model.latest_version.id,
    );
    const found = await replicate.models.search("flux");
    const account = await replicate.accounts.current();
    return [model.latest_version.id === version.id, found.results.length > 1, account.username];
  },
  async webhook() {
    const secret = (await replicate.webhooks.default.secret.get()).key;
    const [id, timestamp, body] = ["msg_1", String(Math.floor(Date.now() / 1000)), '{"id":"p"}'];
    const key = Buffer.from(secret.split("_").pop(), "base64");
    const digest = createHmac("sha256", key).update(`${id}.${timestamp}.${body}`).digest("base64");
    const message = { id, timestamp, signature: `v1,${digest}`, secret };
    return [
      await validateWebhook({ ...message, body }),
      await validateWebhook({ ...message, body: '{"id":"q"}' }),
    ];
  },
  async refused() {
    return await replicate.predictions.create({ model: PRO, input: {} });
  },
  async meantTwice() {
    const input = { prompt: "js twice" };
    const made = await Promise.all([0, 1].map(() => replicate.run(PRO, { input })));
    made.push(await replicate.run(PRO, { input }));
    return new Set(made.map(String)).size;
  },
};

// What the test loses the answers of: the client repeats it by itself.
const lost = {
  async repeated() {
    return String(await replicate.run(PRO, { input: { prompt: "js lost" } })).startsWith("https:");
  },
};

const results = {};
for (const [name, check] of Object.entries(process.argv[4] === "lost" ? lost : checks)) {
  try {
    results[name] = await check();
  } catch (error) {
    results[name] = { error: String(error.message), status: error.response?.status };
  }
}
console.log(JSON.stringify(results));
