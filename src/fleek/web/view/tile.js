// One tile of the wall.
import { h, icon, iconButton } from "../lib/dom.js";
import { api, mediaUrl, thumbnail } from "../lib/api.js";
import { bare, dayOf, elapsed, kindIcon, modelName, seconds, some, titleOf } from "../lib/format.js";
import { load } from "../lib/loading.js";
import { save } from "../lib/save.js";
import { put, unfinished } from "../lib/store.js";
import { address, go } from "../lib/router.js";
import { retry } from "./live.js";
import { tellProblem } from "./toast.js";

export const ratio = (job) => {
  if (!job) return 1.25;
  const output = job.outputs[0];
  if (!output || job.purged_at) return 1.5;
  const kind = output.content_type.split("/")[0];
  if (kind === "text" || kind === "audio") return kind === "text" ? 1 : 1.5;
  return output.width && output.height ? Math.min(2.4, Math.max(0.5, output.width / output.height)) : 1.25;
};

export async function favourite(job, value = !job.favourite) {
  put({ ...job, favourite: value }, "event");
  try { put(await api(`jobs/${job.id}`, { method: "PATCH", json: { favourite: value } }), "event"); } catch (error) { put(job, "event"); tellProblem(error); }
}
export const again = (job) => go(address("", { again: job.id }));

// Without a small picture the file itself is shown; what cannot be had now is asked for again.
function broken(img, whole) {
  if (whole) img.addEventListener("error", () => broken(img, null), { once: true });
  if (whole) load(img, whole);
  else {
    const tried = Number(img.dataset.tried ?? 0), src = img.src;
    if (tried === 4) { img.replaceWith(h("span", { class: "tag" }, icon("image"), "not shown")); return; }
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

function video(job, output) {
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const el = h("video", { src: mediaUrl(output.url), muted: true, loop: true, playsinline: true, preload: output.poster ? "none" : "metadata", "aria-label": titleOf(job).slice(0, 200),
    poster: output.poster ? mediaUrl(output.poster) : null });
  el.muted = true;
  if (!calm) el.dataset.plays = "1";
  return [el, h("span", { class: "tag num" }, icon("film"), seconds(output.duration_seconds) || "Video")];
}

const kindLine = (name, ...words) => h("span", { class: "kind" }, icon(name), h("span", { class: "cut" }, words));

function sound(job, output) {
  const bars = output.sha256.slice(0, 48).split("").map((digit) => h("i", { vars: { v: `${15 + parseInt(digit, 16) * 5}%` } }));
  return [kindLine("sound", h("bdi", {}, titleOf(job))), h("span", { class: "wave", "aria-hidden": "true" }, bars)];
}
function player(output) {
  const audio = new Audio(), length = h("span", { class: "length num" }, seconds(output.duration_seconds));
  const button = h("button", { type: "button", class: "play", "aria-label": "Play", onclick: () => {
    if (!audio.src) audio.src = mediaUrl(output.url);
    if (audio.paused) audio.play().catch(() => { length.textContent = "cannot be played here"; });
    else audio.pause();
    button.setAttribute("aria-label", audio.paused ? "Play" : "Pause");
  } }, icon("play"));
  audio.addEventListener("timeupdate", () => { length.textContent = `${seconds(audio.currentTime)} / ${seconds(output.duration_seconds)}`; });
  return [button, length];
}

async function words(job, place) {
  try {
    const text = await api(`download/${job.id}?index=0`, { whole: true, headers: { Range: "bytes=0-699" } }).then((answer) => answer.text());
    place.textContent = text;
  } catch { place.textContent = titleOf(job); }
}

function plain(job) {
  if (job.purged_at) {
    const said = Object.entries(job.parameters).map(([name, value]) => `${name} ${bare(value)}`).join(" · ");
    return [kindLine("trash", `Files were removed on ${dayOf(job.purged_at)}`), h("p", {}, h("bdi", {}, titleOf(job)), h("br"), h("span", { class: "soft small" }, said))];
  }
  if (job.status === "failed") return [kindLine("alert", `Failed after ${some(Math.max(1, job.retry_count + 1), "try", "tries")}`), h("p", {}, job.error_message ?? job.error_code)];
  return [kindLine(unfinished(job) ? "clock" : kindIcon(job.kind), { pending: "Waiting", processing: "Running", cancelled: "Cancelled" }[job.status] ?? "No file"), h("p", {}, h("bdi", {}, titleOf(job)))];
}

const KINDS = { image: (job, output) => [picture(job, output)], video, audio: sound };

// `chosen`: the ids that are selected; `select(id, on)`.
export function makeTile(job, { chosen, select }) {
  const output = job.purged_at ? null : job.outputs[0];
  const kind = output?.content_type.split("/")[0];
  const isPlain = !output || kind === "audio" || !(kind in KINDS);
  const link = h("a", { href: `#/jobs/${job.id}`, draggable: "true", ondragstart: (event) => { if (output) event.dataTransfer.setData("text/x-fleek-job", job.id); } });
  if (kind in KINDS) link.append(...KINDS[kind](job, output));
  else if (kind === "text") {
    const place = h("p", { class: "verse" });
    link.append(kindLine("text", h("bdi", {}, titleOf(job))), place);
    words(job, place);
  } else link.append(...(output ? [kindLine("panel", output.content_type), h("p", {}, h("bdi", {}, titleOf(job)))] : plain(job)));
  link.setAttribute("aria-label", `${titleOf(job).slice(0, 200)} (${job.purged_at ? "files removed" : job.status === "completed" ? job.kind ?? "file" : job.status})`);
  if (!isPlain && kind !== "text") {
    const facts = [modelName(job.model_name), output.width && `${output.width} × ${output.height}`, job.started_at && seconds(elapsed(job))].filter(Boolean).join(" · ");
    link.append(h("span", { class: "veil", "aria-hidden": "true" }, h("span", { class: "cap" }, h("bdi", {}, titleOf(job).slice(0, 300))), h("small", {}, facts)));
    if (output.placeholder) link.style.setProperty("background", `center / cover url("${output.placeholder}")`);
    if (job.outputs.length > 1) link.append(h("span", { class: "tag num" }, icon("image"), job.outputs.length));
    if (job.favourite) link.append(h("span", { class: "heart" }, icon("heart")));
  }
  const actions = job.status === "failed" ? [iconButton("again", "Try again", () => retry(job))] : [
    iconButton("heart", "Favourite", () => favourite(job), { "aria-pressed": String(job.favourite) }),
    iconButton("again", "Again with changes", () => again(job)),
    output && iconButton("save", "Download", () => save(job, 0).catch(tellProblem))];
  const film = link.querySelector("[data-plays]");
  const play = film && { onpointerenter: () => film.play().catch(() => {}), onpointerleave: () => film.pause(), onfocusin: () => film.play().catch(() => {}), onfocusout: () => film.pause() };
  return h("div", { class: `tile${isPlain || kind === "text" ? " plain" : ""}${job.status === "failed" ? " bad" : ""}`, role: "listitem", "data-job": job.id, ...play }, link,
    h("span", { class: "acts" }, actions), kind === "audio" && player(output),
    h("label", { class: "pick" }, h("input", { type: "checkbox", "aria-label": "Select", checked: chosen.has(job.id), onclick: (event) => select(job.id, event.target.checked, event.shiftKey) })));
}

// What a tile shows; when it changes, the tile is made anew.
export const look = (job) => `${job.id} ${job.status} ${job.favourite} ${job.purged_at ?? ""} ${job.outputs.length} ${job.outputs[0]?.thumbnails ? 1 : 0}`;
