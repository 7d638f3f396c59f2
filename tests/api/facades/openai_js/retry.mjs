// Makes an image, then another like it; the answers of the first tries are lost on the way.
import OpenAI from "openai";

const [baseURL, apiKey, prompt] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey });
for (const _ of [1, 2]) {
  await client.images.generate({ model: "gpt-image-1-mini", prompt });
}
console.log(JSON.stringify("done"));
