// The pictures of inputs that this page may show: its own uploads, and outputs of jobs.
import { mediaUrl } from "../lib/api.js";
import { jobs } from "../lib/store.js";

export const previews = new Map(); // by reference, of this page

export const preview = (reference) => {
  if (previews.has(reference)) return previews.get(reference);
  const job = /^job:([0-9a-f-]{36})(?:\/(\d+))?$/.exec(reference ?? "");
  const output = job && jobs.get(job[1])?.outputs[Number(job[2] ?? 0)];
  if (output?.content_type.startsWith("image/")) return mediaUrl(output.url);
  return null; // no other origin may be asked, and files of uploads are not served
};
