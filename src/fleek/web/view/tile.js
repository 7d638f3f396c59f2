// One tile of the wall.
import { h, icon, iconButton, swap } from "../lib/dom.js";
import { api, mediaUrl, thumbnail } from "../lib/api.js";
import { elapsed, modelName, seconds, titleOf } from "../lib/format.js";
import { load } from "../lib/loading.js";
import { put } from "../lib/store.js";
import { address, go } from "../lib/router.js";
import { retry } from "./live.js";
import { attempt } from "./toast.js";

export const ratio = (job) => {
  if (!job) return 1.25;
  const output = job.outputs[0];
  if (!output || job.purged_at) return 1.5;
  const kind = output.content_type.split("/")[0];
  if (kind === "text" || kind === "audio") return kind === "text" ? 1 : 1.5;
  return output.width && output.height ? Math.min(2.4, Math.max(0.5, output.width / output.height)) : 1.25;
};

export async function favourite(job) {
  const value = !job.favourite;
  put({ ...job, favourite: value }, "event");
  const changed = await attempt(() => api(`jobs/${job.id}`, { method: "PATCH", json: { favourite: value } }));
  put(changed ?? job, "event");
}
export const again = (job) => go(address("", { again: job.id }));

// Without a small picture the file itself is shown; what cannot be had now is asked for again.
function broken(img, whole) {
  if (whole) img.addEventListener("error", () => broken(img, null), { once: true });
  if (whole) load(img, whole);
  else {
    const tried = Number(img.dataset.tried ?? 0), src = img.src;
    if (tried === 4) { img.replaceWith(h("span.tag", icon("image"), "not shown")); return; }
    img.dataset.tried = tried + 1;
    img.addEventListener("error", () => broken(img, null), { once: true });
    setTimeout(() => load(img, src), 1500 * 2 ** tried);
  }
}

function picture(job, output) {
  const small = thumbnail(output, "320"), whole = mediaUrl(output.url);
  const img = h("img", { alt: titleOf(job).slice(0, 200), decoding: "async", draggable: "false", width: output.width, height: output.height });
  img.addEventListener("error", () => broken(img, small && whole), { once: true });
  return load(img, small ?? whole);
}

// `chosen`: the ids that are selected; `select(id, on, range)`.
export function makeTile(job, { chosen, select }) {
  const output = job.purged_at ? null : job.outputs[0], kind = output?.content_type.split("/")[0], name = titleOf(job).slice(0, 200);
  const filled = kind === "image" || kind === "video"; // of others there are words
  const link = h("a", { href: `#/jobs/${job.id}`, draggable: "true", ondragstart: (event) => { if (output) event.dataTransfer.setData("text/x-fleek-job", job.id); },
    "aria-label": `${name} (${job.purged_at ? "files removed" : job.status === "completed" ? job.kind ?? "file" : job.status})` });
  if (filled) {
    const facts = [modelName(job.model_name), output.width && `${output.width} × ${output.height}`, job.started_at && seconds(elapsed(job))].filter(Boolean).join(" · ");
    swap(link, kind === "image" && picture(job, output), h("span.veil", { "aria-hidden": "true" }, h("span.cap", h("bdi", titleOf(job).slice(0, 300))), h("small", facts)),
      job.outputs.length > 1 && h("span.tag.num", icon("image"), job.outputs.length), job.favourite && h("span.heart", icon("heart")));
    if (output.placeholder) link.style.background = `center / cover url("${output.placeholder}")`;
  }
  const tile = h("div.tile", { role: "listitem", "data-job": job.id }, link,
    h("span.acts", job.status === "failed" ? iconButton("again", "Try again", () => retry(job)) : [
      iconButton("heart", "Favourite", () => favourite(job), { "aria-pressed": String(job.favourite) }),
      iconButton("again", "Again with changes", () => again(job)),
      output && iconButton("save", "Download", async () => (await import("./save.js")).save(job, 0))]),
    h("label.pick", h("input", { type: "checkbox", "aria-label": "Select", checked: chosen.has(job.id), onclick: (event) => select(job.id, event.target.checked, event.shiftKey) })));
  tile.classList.toggle("plain", !filled);
  tile.classList.toggle("bad", job.status === "failed");
  if (kind !== "image") import("./kinds.js").then(({ fill }) => fill(tile, job, output));
  return tile;
}

// What a tile shows; when it changes, the tile is made anew.
export const look = (job) => `${job.id} ${job.status} ${job.favourite} ${job.purged_at ?? ""} ${job.outputs.length} ${job.outputs[0]?.thumbnails ? 1 : 0}`;
