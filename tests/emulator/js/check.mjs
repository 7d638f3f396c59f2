// Runs the official JavaScript client against the emulator whose address is the first argument,
// and prints what it got as one JSON object: check → result, or {error} if it threw.

import Replicate, { parseProgressFromLogs, validateWebhook } from "replicate";
import { createHmac } from "node:crypto";

const [, , baseUrl, sdxl] = process.argv;
const replicate = new Replicate({ auth: "r8_test", baseUrl, useFileOutput: true });

const FLUX = "black-forest-labs/flux-schnell";
const PRO = "black-forest-labs/flux-1.1-pro";
const LLAMA = "meta/meta-llama-3-8b-instruct";

const checks = {
  async run() {
    return String(await replicate.run(PRO, { input: { prompt: "a cat" } }));
  },
  async runList() {
    const output = await replicate.run(FLUX, { input: { prompt: "a cat", num_outputs: 2 } });
    return output.map(String);
  },
  async runVersion() {
    const output = await replicate.run(`stability-ai/sdxl:${sdxl}`, { input: { prompt: "a cat" } });
    return output.map(String);
  },
  async runPolling() {
    const input = { prompt: "[[emu:queue=0.1]][[emu:predict=0.4]]" };
    return String(await replicate.run(PRO, { input, wait: { mode: "poll", interval: 50 } }));
  },
  async runWaitInVain() {
    const input = { prompt: "[[emu:predict=1.3]]" };
    return String(await replicate.run(PRO, { input, wait: { mode: "block", timeout: 1 } }));
  },
  async runText() {
    return (await replicate.run(LLAMA, { input: { prompt: "tell me" } })).join("");
  },
  async runDataUri() {
    const output = await replicate.run(PRO, { input: { prompt: "[[emu:output=data_uri]]" } });
    const bytes = new Uint8Array(await (await output.blob()).arrayBuffer());
    return [...bytes.slice(1, 4)].map((byte) => String.fromCharCode(byte)).join("");
  },
  async runFailed() {
    return await replicate.run(PRO, { input: { prompt: "[[emu:nsfw]]" } });
  },
  async stream() {
    const events = [];
    for await (const event of replicate.stream(LLAMA, { input: { prompt: "tell me" } })) {
      events.push(event);
    }
    const words = events.filter((event) => event.event === "output").map((event) => event.data);
    return [words.join(""), events.at(-1).event];
  },
  async createAndWait() {
    const input = { prompt: "[[emu:predict=0.3]]" };
    const made = await replicate.predictions.create({ model: PRO, input });
    const done = await replicate.wait(made, { interval: 50 });
    return [made.status !== "succeeded", done.status, parseProgressFromLogs(done).percentage];
  },
  async cancel() {
    const input = { prompt: "[[emu:predict=60]]" };
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
    const listed = (await replicate.files.list()).results.length;
    const deleted = await replicate.files.delete(made.id);
    return [found.content_type, found.size, found.metadata, listed, deleted];
  },
  async fileInput() {
    const image = new Blob([new Uint8Array([1, 2, 3])], { type: "image/png" });
    const made = await replicate.predictions.create({
      model: FLUX,
      input: { prompt: "a cat", image },
    });
    return made.input.image.startsWith(`${baseUrl}/files/`);
  },
  async browse() {
    const model = await replicate.models.get("stability-ai", "sdxl");
    const version = await replicate.models.versions.get("stability-ai", "sdxl", sdxl);
    const found = await replicate.models.search("flux");
    const collection = await replicate.collections.get("text-to-image");
    const hardware = await replicate.hardware.list();
    const account = await replicate.accounts.current();
    return [
      model.latest_version.id === version.id,
      found.results.length,
      collection.models.length > 0,
      hardware[0].sku,
      account.username,
    ];
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
};

const results = {};
for (const [name, check] of Object.entries(checks)) {
  try {
    results[name] = await check();
  } catch (error) {
    results[name] = { error: String(error.message), status: error.response?.status };
  }
}
console.log(JSON.stringify(results));
