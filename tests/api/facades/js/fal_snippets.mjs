// What people do with fal's JavaScript client: its README's examples, and the snippets that are read most.
// Arguments: our address, the key, the address of a receiver of webhooks.

import { fal } from "@fal-ai/client";
import { readFile } from "node:fs/promises";
import { report, statuses } from "./harness.mjs";

const [, , base, credentials, hook] = process.argv;
fal.config({ credentials, proxyUrl: { url: `${base}/fal/proxy`, when: "always" } });
const DEV = "fal-ai/flux/dev"; // an alias
const PRO = "black-forest-labs/flux-1.1-pro";

await report({
  async subscribesWithLogs() {
    const seen = [];
    const result = await fal.subscribe(DEV, {
      input: { prompt: "[[emu:predict=0.4]] js snippet cat", seed: 6252023, image_size: "landscape_4_3", num_images: 4 },
      logs: true,
      onQueueUpdate: (update) => {
        seen.push(update.status);
        if (update.status === "IN_PROGRESS") update.logs.map((log) => log.message);
      },
    });
    return [seen.at(-1), result.data.images.length, result.data.seed, typeof result.requestId];
  },
  async runs() {
    const { data } = await fal.run(DEV, { input: { prompt: "js snippet run" } });
    return [(await fetch(data.images[0].url)).headers.get("content-type"), data.images[0].content_type];
  },
  async submitsThenAsks() {
    const { request_id: requestId } = await fal.queue.submit(DEV, { input: { prompt: "js snippet id" }, webhookUrl: hook });
    const status = await fal.queue.subscribeToStatus(DEV, { requestId, logs: true, pollInterval: 100 });
    const result = await fal.queue.result(DEV, { requestId });
    return [status.status, result.data.images.length, result.requestId === requestId];
  },
  async streamsTheStatus() {
    const { request_id: requestId } = await fal.queue.submit(PRO, { input: { prompt: "[[emu:predict=0.4]] js snippet status" } });
    const stream = await fal.queue.streamStatus(PRO, { requestId, logs: true, connectionMode: "server" });
    let last = "";
    for await (const update of stream) last = update.status;
    return last;
  },
  async streamsTheResult() {
    const stream = await fal.stream(PRO, { input: { prompt: "js snippet stream" }, connectionMode: "server" });
    let events = 0;
    for await (const event of stream) events += event.images.length;
    return [events, (await stream.done()).images.length];
  },
  async makesAVideo() {
    const data = (await readFile("picture.png")).toString("base64");
    const input = { prompt: "js snippet video", image_url: `data:image/png;base64,${data}` };
    return (await fal.subscribe("minimax/video-01", { input })).data.video.content_type;
  },
  async editsAResult() {
    const first = await fal.subscribe(PRO, { input: { prompt: "js snippet first" } });
    const input = { prompt: "js snippet second", image_url: first.data.images[0].url };
    return (await fal.subscribe(PRO, { input })).data.images.length;
  },
  async handlesErrors() {
    return await statuses({
      arguments: () => fal.subscribe(DEV, { input: { seed: 1 } }),
      content: () => fal.subscribe(PRO, { input: { prompt: "[[emu:nsfw]] js snippet" } }),
    });
  },
  async enlargesAPicture() {
    const input = { image_url: new Blob([await readFile("picture.png")]), scale: 2 };
    return (await fal.subscribe("nightmareai/real-esrgan", { input })).data.image.content_type;
  },
  async uploadsAFile() {
    const file = new File([await readFile("picture.png")], "cat.png", { type: "image/png" });
    const url = await fal.storage.upload(file, { lifecycle: { expiresIn: "1d" } });
    const again = await fal.storage.upload(file); // has an address of its own
    const input = { prompt: "js snippet uploaded", image_url: url };
    return [(await fal.subscribe(PRO, { input })).data.images.length, url.split("/").length, url === again];
  },
  async takesFilesAsArguments() {
    const input = { prompt: "js snippet blob", image_url: new Blob([await readFile("picture.png")]) };
    return (await fal.run(PRO, { input })).data.images.length;
  },
  async isRefused() {
    const large = new Blob([new Uint8Array(91 * 1024 * 1024)]);
    return await statuses({
      "a file of more than 90 MiB": () => fal.storage.upload(large),
      "an empty file": () => fal.storage.upload(new Blob([])),
      "an argument that the model lacks": () => fal.run(DEV, { input: { prompt: "x", guidance_scale: 3.5 } }),
      "no prompt, for a model that needs one": () => fal.run(PRO, { input: { image_url: "https://example.com/a.png" } }),
      "an unknown application": () => fal.run("no such app/x", { input: { prompt: "x" } }),
    });
  },
});
