// What people do with Replicate's JavaScript client: its README's examples, and the snippets that are read most.
// Arguments: our address, the key, a version of `stability-ai/sdxl`, the address of a receiver of webhooks.

import Replicate from "replicate";
import { readFile, writeFile } from "node:fs/promises";
import { report, statuses } from "./harness.mjs";

const [, , base, auth, sdxl, hook] = process.argv;
const baseUrl = `${base}/replicate/v1`;
const replicate = new Replicate({ auth, baseUrl });
const FLUX = "black-forest-labs/flux-schnell";
const PRO = "black-forest-labs/flux-1.1-pro";
const LLAMA = "meta/meta-llama-3-8b-instruct";
const pause = () => new Promise((done) => setTimeout(done, 100));

await report({
  async savesEachOutput() {
    const output = await replicate.run(FLUX, { input: { prompt: "js snippet wombat" } });
    for (const [index, item] of Object.entries(output)) await writeFile(`output_${index}.webp`, item);
    return (await readFile("output_0.webp")).subarray(8, 12).toString();
  },
  async showsAnAddress() {
    const [output] = await replicate.run(FLUX, { input: { prompt: "js snippet url" } });
    return [output.url().protocol, (await fetch(output.url())).status];
  },
  async takesPlainAddresses() {
    const plain = new Replicate({ auth, baseUrl, useFileOutput: false });
    const output = await plain.run(`stability-ai/sdxl:${sdxl}`, { input: { prompt: "js snippet plain", width: 512 } });
    return output[0].slice(0, 8);
  },
  async followsProgress() {
    const seen = [];
    const input = { prompt: "[[emu:predict=0.5]] js snippet progress" };
    const options = { input, wait: { mode: "poll", interval: 100 } };
    await replicate.run(PRO, options, (prediction) => seen.push(prediction.status));
    return [seen[0], seen.at(-1)];
  },
  async pollsByHand() {
    let prediction = await replicate.predictions.create({ model: PRO, input: { prompt: "js snippet poll" } });
    while (prediction.status !== "succeeded" && prediction.status !== "failed") {
      await pause();
      prediction = await replicate.predictions.get(prediction.id);
    }
    return prediction.output.slice(0, 8);
  },
  async asksForAWebhook() {
    const made = await replicate.predictions.create({
      model: PRO,
      input: { prompt: "js snippet hook" },
      webhook: hook,
      webhook_events_filter: ["completed"],
    });
    return made.id;
  },
  async streamsWords() {
    let words = "";
    for await (const { event, data } of replicate.stream(LLAMA, { input: { prompt: "js snippet haiku" } })) {
      if (event === "output") words += data;
    }
    return words;
  },
  async enlargesAPicture() {
    const image = await readFile("picture.png");
    return (await replicate.run("nightmareai/real-esrgan", { input: { image, scale: 2 } })).url().protocol;
  },
  async sendsAFile() {
    const image = await readFile("picture.png");
    const made = await replicate.run(PRO, { input: { prompt: "js snippet file", image_prompt: image } });
    return made.url().protocol;
  },
  async feedsOneModelWithAnother() {
    const first = await replicate.run(PRO, { input: { prompt: "js snippet pipeline 1" } });
    const second = await replicate.run(PRO, { input: { prompt: "js snippet pipeline 2", image_prompt: first.url().href } });
    return second.url().href !== first.url().href;
  },
  async abortsARun() {
    const controller = new AbortController();
    const input = { prompt: "[[emu:predict=60]] js snippet abort" };
    const options = { input, signal: controller.signal, wait: { mode: "poll", interval: 100 } };
    const running = replicate.run(PRO, options, () => controller.abort());
    await running.catch(() => null);
    const { results } = await replicate.predictions.list();
    return results.find((each) => each.input.prompt === input.prompt).status;
  },
  async addsItsOwnFetch() {
    const seen = [];
    const own = (url, options) => {
      seen.push(new URL(url).pathname);
      return fetch(url, options);
    };
    await new Replicate({ auth, baseUrl, fetch: own }).models.list();
    return seen;
  },
  async handlesErrors() {
    const stranger = new Replicate({ auth: "r8_wrong", baseUrl });
    return await statuses({
      token: () => stranger.models.list(),
      prediction: () => replicate.predictions.get("gm3qorzdhgbfurvjtvhg6dckhu"),
      content: () => replicate.run(PRO, { input: { prompt: "[[emu:nsfw]] js snippet" } }).catch((error) => /failed/.test(error.message)),
    });
  },
  async isRefused() {
    return await statuses({
      "no prompt, for a model that needs one": () => replicate.run(PRO, { input: { image_prompt: "https://example.com/a.png" } }),
      training: () => replicate.trainings.create("stability-ai", "sdxl", sdxl, { destination: "me/mine", input: {} }),
      "creation of a model": () => replicate.models.create("me", "mine", { visibility: "private", hardware: "cpu" }),
      "deployments.get": () => replicate.deployments.get("me", "mine"),
      "collections.get": () => replicate.collections.get("text-to-image"),
    });
  },
});
