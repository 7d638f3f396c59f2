// What a tile shows instead of a picture: a video, a sound, a text, or why there is no file.
import { h, icon, swap } from "../lib/dom.js";
import { api, mediaUrl } from "../lib/api.js";
import { bare, dayOf, kindIcon, seconds, some, titleOf } from "../lib/format.js";
import { unfinished } from "../lib/store.js";

const head = (name, ...words) => h("span.kind", icon(name), h("span.cut", words));
const title = (job) => h("bdi", titleOf(job));

// It plays without sound while it is pointed at, if movement is welcome.
function video(tile, job, output) {
  const film = h("video", { src: mediaUrl(output.url), loop: true, playsinline: true, preload: output.poster ? "none" : "metadata", "aria-label": titleOf(job).slice(0, 200),
    poster: output.poster ? mediaUrl(output.poster) : null });
  film.muted = true;
  if (!matchMedia("(prefers-reduced-motion: reduce)").matches) {
    for (const name of ["pointerenter", "focusin"]) tile.addEventListener(name, () => film.play().catch(() => {}));
    for (const name of ["pointerleave", "focusout"]) tile.addEventListener(name, () => film.pause());
  }
  tile.firstChild.prepend(film, h("span.tag.num", icon("film"), seconds(output.duration_seconds) || "Video"));
}

function audio(tile, job, output) {
  const bars = output.sha256.slice(0, 48).split("").map((digit) => h("i", { vars: { v: `${15 + parseInt(digit, 16) * 5}%` } }));
  swap(tile.firstChild, head("sound", title(job)), h("span.wave", { "aria-hidden": "true" }, bars));
  const sound = new Audio(), length = h("span.length.num", seconds(output.duration_seconds));
  const button = h("button.play", { "aria-label": "Play", onclick: () => {
    if (!sound.src) sound.src = mediaUrl(output.url);
    if (sound.paused) sound.play().catch(() => { length.textContent = "cannot be played here"; });
    else sound.pause();
    button.ariaLabel = sound.paused ? "Play" : "Pause";
  } }, icon("play"));
  sound.addEventListener("timeupdate", () => { length.textContent = `${seconds(sound.currentTime)} / ${seconds(output.duration_seconds)}`; });
  tile.lastChild.before(button, length);
}

async function text(tile, job) {
  const verse = h("p.verse");
  swap(tile.firstChild, head("text", title(job)), verse);
  try {
    verse.textContent = await (await api(`download/${job.id}?index=0`, { whole: true, headers: { Range: "bytes=0-699" } })).text();
  } catch { verse.textContent = titleOf(job); }
}

function words(job, output) {
  if (output) return [head("panel", output.content_type), h("p", title(job))];
  if (job.purged_at) {
    const said = Object.entries(job.parameters).map(([name, value]) => `${name} ${bare(value)}`).join(" · ");
    return [head("trash", `Files were removed on ${dayOf(job.purged_at)}`), h("p", title(job), h("br"), h("span.soft.small", said))];
  }
  if (job.status === "failed") return [head("alert", `Failed after ${some(job.retry_count + 1, "try", "tries")}`), h("p", job.error_message ?? job.error_code)];
  return [head(unfinished(job) ? "clock" : kindIcon(job.kind), { pending: "Waiting", processing: "Running", cancelled: "Cancelled" }[job.status] ?? "No file"), h("p", title(job))];
}

const KINDS = { video, audio, text };
export function fill(tile, job, output) {
  const kind = KINDS[output?.content_type.split("/")[0]];
  if (kind) kind(tile, job, output);
  else swap(tile.firstChild, words(job, output));
}
