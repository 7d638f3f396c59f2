// What people do with OpenAI's JavaScript client: its own examples, and the snippets that are read most.
// Only the address and the key, in the environment, are ours. The picture is in `picture.png`.

import OpenAI, { toFile } from "openai";
import { createReadStream, createWriteStream } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";

const openai = new OpenAI();
const start = (b64) => Buffer.from(b64, "base64").subarray(1, 4).toString();
const checks = {
  async makesAnImageWithAnAddress() {
    const named = await openai.images.generate({ model: "dall-e-3", prompt: "js snippet cat", n: 1, size: "1024x1024" });
    const unnamed = await openai.images.generate({ prompt: "js snippet dog" });
    return [(await fetch(named.data[0].url)).headers.get("content-type"), unnamed.data[0].url.slice(0, 8)];
  },
  async savesAnImage() {
    const made = await openai.images.generate({ model: "gpt-image-1", prompt: "js snippet otter", quality: "low" });
    await writeFile("otter.webp", Buffer.from(made.data[0].b64_json, "base64"));
    return (await readFile("otter.webp")).subarray(8, 12).toString();
  },
  async streamsAnImage() {
    const stream = await openai.images.generate({ model: "gpt-image-1", prompt: "js snippet stream", stream: true, partial_images: 3 });
    const seen = [];
    for await (const event of stream) seen.push(event.type);
    return seen;
  },
  async editsAnImage() {
    const image = await toFile(createReadStream("picture.png"), null, { type: "image/png" });
    const list = [await toFile(await readFile("picture.png"), "b.png", { type: "image/png" })];
    const made = [];
    for (const one of [image, list]) {
      made.push(await openai.images.edit({ model: "gpt-image-1-mini", image: one, prompt: "js snippet edit" }));
    }
    return made.map((each) => start(each.data[0].b64_json));
  },
  async saysSomethingToAFile() {
    const given = { model: "tts-1", voice: "alloy" };
    const said = await openai.audio.speech.create({ ...given, input: "js snippet said" });
    await writeFile("one.mp3", Buffer.from(await said.arrayBuffer()));
    const streamed = await openai.audio.speech.create({ ...given, input: "js snippet streamed", response_format: "mp3" });
    await pipeline(Readable.fromWeb(streamed.body), createWriteStream("two.mp3"));
    return [(await readFile("one.mp3")).subarray(0, 4).toString(), (await readFile("two.mp3")).subarray(0, 4).toString()];
  },
  async makesAVideo() {
    let video = await openai.videos.create({ model: "sora-2", prompt: "[[emu:predict=0.5]] js snippet video" });
    while (video.status === "in_progress" || video.status === "queued") {
      await new Promise((done) => setTimeout(done, 100));
      video = await openai.videos.retrieve(video.id);
    }
    const content = await openai.videos.downloadContent(video.id);
    await writeFile("video.mp4", Buffer.from(await content.arrayBuffer()));
    return [video.status, video.progress, (await readFile("video.mp4")).subarray(4, 8).toString()];
  },
  async handlesErrors() {
    const found = [];
    for (const call of [
      () => openai.images.generate({ model: "gpt-image-1", prompt: "x", size: "huge" }),
      () => openai.images.generate({ model: "gpt-image-1", prompt: "[[emu:nsfw]] js snippet" }),
      () => new OpenAI({ apiKey: "sk-wrong" }).models.list(),
    ]) {
      try {
        await call();
      } catch (error) {
        found.push([error instanceof OpenAI.APIError, error.status, error.name, error.code, Boolean(error.requestID)]);
      }
    }
    return found;
  },
  async readsRawAnswers() {
    const given = { model: "gpt-image-1-mini", prompt: "js snippet raw", user: "me" };
    const answer = await openai.images.generate(given, { maxRetries: 5, timeout: 60_000 }).asResponse();
    return [answer.status, answer.headers.get("x-fleek-ignored")];
  },
  async listsModels() {
    const names = [];
    for await (const model of openai.models.list()) names.push(model.id);
    return names.includes("dall-e-3");
  },
  async isRefused() {
    const picture = await toFile(await readFile("picture.png"), "a.png", { type: "image/png" });
    const calls = {
      "images.createVariation": () => openai.images.createVariation({ image: picture }),
      "a mask": () => openai.images.edit({ model: "gpt-image-1-mini", image: picture, mask: picture, prompt: "x" }),
      "videos.remix": () => openai.videos.remix("video_1", { prompt: "x" }),
      "a thumbnail": () => openai.videos.downloadContent("video_1", { variant: "thumbnail" }),
      chat: () => openai.chat.completions.create({ model: "gpt-5", messages: [{ role: "user", content: "x" }] }),
    };
    const found = {};
    for (const [name, call] of Object.entries(calls)) found[name] = await call().catch((error) => error.status);
    return found;
  },
};

const results = {};
for (const [name, check] of Object.entries(checks)) {
  try {
    results[name] = await check();
  } catch (error) {
    results[name] = { error: String(error.message), status: error.status };
  }
}
console.log(JSON.stringify(results));
