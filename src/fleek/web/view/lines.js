// Each line of a prompt as a job of its own.
import { toast } from "./toast.js";

export async function sendLines(text, send) {
  const lines = text.split("\n").map((one) => one.trim()).filter(Boolean);
  if (lines.length < 2) return toast("Write one prompt per line first");
  for (const line of lines) await send(line);
  return toast(`${lines.length} jobs sent`);
}
