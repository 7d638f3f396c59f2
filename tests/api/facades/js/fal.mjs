// Runs fal's JavaScript client against the facade's proxy, whose address and key are the arguments, and
// prints what it got as one JSON object: check → result, or {error} if it threw.

import { createFalClient } from "@fal-ai/client";

const [, , base, credentials, mode] = process.argv;
const fal = createFalClient({ credentials, proxyUrl: { url: `${base}/fal/proxy`, when: "always" } });

const FLUX = "black-forest-labs/flux-schnell";
const PRO = "black-forest-labs/flux-1.1-pro";

const checks = {
  async run() {
    const made = await fal.run(FLUX, { input: { prompt: "fal js run", num_images: 2 } });
    return [made.data.images.length, made.requestId.length];
  },
  async subscribe() {
    const seen = [];
    const made = await fal.subscribe(PRO, {
      input: { prompt: "[[emu:predict=0.3]] fal js subscribe" },
      logs: true,
      pollInterval: 50,
      onQueueUpdate: (update) => seen.push(update.status),
    });
    return [seen.at(-1), made.data.images.length, made.requestId.length];
  },
  async subscribeStreaming() {
    const made = await fal.subscribe(PRO, {
      input: { prompt: "[[emu:predict=0.3]] fal js streaming" },
      mode: "streaming",
    });
    return made.data.images.length;
  },
  async lifecycle() {
    const { request_id: requestId } = await fal.queue.submit(PRO, {
      input: { prompt: "fal js lifecycle" },
      priority: "low",
    });
    let status = await fal.queue.status(PRO, { requestId, logs: true });
    while (status.status !== "COMPLETED") {
      status = await fal.queue.status(PRO, { requestId, logs: true });
    }
    const made = await fal.queue.result(PRO, { requestId });
    return [made.requestId === requestId, made.data.images.length];
  },
  async cancelled() {
    const { request_id: requestId } = await fal.queue.submit(PRO, {
      input: { prompt: "[[emu:predict=60]] fal js cancel" },
    });
    await fal.queue.cancel(PRO, { requestId });
    return (await fal.queue.status(PRO, { requestId })).error_type;
  },
  async failed() {
    return await fal.subscribe(PRO, { input: { prompt: "[[emu:nsfw]] fal js" } });
  },
  async refused() {
    return await fal.queue.submit(PRO, { input: { prompt: "x", seed: "seven" } });
  },
  async stream() {
    const stream = await fal.stream(PRO, { input: { prompt: "fal js stream" }, connectionMode: "server" });
    return (await stream.done()).images.length;
  },
  async meantTwice() {
    const input = { prompt: "fal js twice" };
    const made = await Promise.all([0, 1].map(() => fal.run(PRO, { input })));
    return new Set(made.map((each) => each.data.images[0].url)).size;
  },
};

const lost = {
  async repeated() {
    const made = await fal.subscribe(PRO, { input: { prompt: "fal js lost" } });
    return made.data.images.length;
  },
};

const results = {};
for (const [name, check] of Object.entries(mode === "lost" ? lost : checks)) {
  try {
    results[name] = await check();
  } catch (error) {
    results[name] = { error: JSON.stringify(error.body ?? error.message), status: error.status };
  }
}
console.log(JSON.stringify(results));
