// Runs every operation of OpenAI's client once; prints what came of it as JSON.
import OpenAI, { toFile } from "openai";

const [baseURL, apiKey, picture] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey });
const png = () => toFile(Buffer.from(picture, "base64"), "cat.png", { type: "image/png" });
const head = (b64) => Buffer.from(b64, "base64").subarray(1, 4).toString();
const results = {};

const failing = async (call) => {
  try {
    await call();
    return null;
  } catch (error) {
    return [error.status, error.code, error.param ?? null];
  }
};

const { data: images, response } = await client.images
  .generate({ model: "gpt-image-1", prompt: "js image", n: 2, quality: "low", output_format: "png" })
  .withResponse();
results.images = [images.data.length, response.headers.get("x-fleek-ignored")];
const edited = await client.images.edit({ model: "gpt-image-1-mini", prompt: "js edit", image: [await png()] });
results.edit = head(edited.data[0].b64_json);

const stream = await client.images.generate({ model: "gpt-image-1-mini", prompt: "js stream", stream: true });
results.stream = [];
for await (const event of stream) results.stream.push(event.type);

const made = await client.videos.create({ model: "sora-2", prompt: "js video", input_reference: await png() });
let video = made;
while (["queued", "in_progress"].includes(video.status)) {
  const { data, response: polled } = await client.videos.retrieve(made.id).withResponse();
  video = data;
  await new Promise((done) => setTimeout(done, Number(polled.headers.get("openai-poll-after-ms") ?? 0)));
}
const content = Buffer.from(await (await client.videos.downloadContent(made.id)).arrayBuffer());
results.video = [video.status, video.model, content.subarray(4, 8).toString()];
const listed = [];
for await (const one of client.videos.list({ limit: 1 })) listed.push(one.id);
results.listed = listed.includes(made.id);
results.deleted = [(await client.videos.delete(made.id)).deleted, (await failing(() => client.videos.retrieve(made.id)))[0]];

const speech = await client.audio.speech.create({ model: "tts-1", input: "js speech", voice: "alloy" });
results.speech = Buffer.from(await speech.arrayBuffer()).subarray(0, 4).toString();

const models = [];
for await (const model of client.models.list()) models.push(model.id);
results.models = models.includes("sora-2");

results.errors = [
  await failing(() => client.images.generate({ model: "gpt-image-1", prompt: "x", colour: 1 })),
  await failing(() => client.images.generate({ model: "gpt-image-1-mini", prompt: "[[emu:nsfw]] js" })),
  await failing(() => client.models.retrieve("no model")),
  await failing(() => new OpenAI({ baseURL, apiKey: "wrong" }).models.list()),
];
console.log(JSON.stringify(results));
