// One job: its outputs on neutral ground, and all that is known about it.
import { h, icon, iconButton, swap } from "../lib/dom.js";
import { api, base, key, mediaUrl, thumbnail } from "../lib/api.js";
import { confirm } from "../lib/confirm.js";
import { code, LANGUAGES } from "../lib/code.js";
import { bytes } from "../lib/bytes.js";
import { bare, dayOf, elapsed, kindIcon, seconds, titleOf, when } from "../lib/format.js";
import { address, go } from "../lib/router.js";
import { jobs, put, subscribe, unfinished } from "../lib/store.js";
import { copy } from "./copy.js";
import { cancel, reason, retry } from "./live.js";
import { dot } from "./page.js";
import { save } from "./save.js";
import { again, favourite } from "./tile.js";
import { timeline } from "./timeline.js";
import { attempt, tellProblem, toast, trouble } from "./toast.js";

const STATUS = { pending: "Waiting", processing: "Running", completed: "Completed", failed: "Failed", cancelled: "Cancelled" };
const action = (name, word, onclick, kind = "text") => h("button", { class: kind, onclick }, icon(name), word);
const part = (title, ...content) => h("section", h("h3", title), ...content);

function shown(job, output) {
  const address = mediaUrl(output.url), kind = output.content_type.split("/")[0];
  if (kind === "image") return h("img", { src: address, alt: titleOf(job).slice(0, 500), width: output.width, height: output.height, onerror: (event) => event.target.replaceWith(h("p.soft", "This picture cannot be shown here.")) });
  if (kind === "video") return h("video", { src: address, controls: true, loop: true, playsinline: true, poster: output.poster ? mediaUrl(output.poster) : null });
  if (kind === "audio") return h("audio", { src: address, controls: true });
  const place = h("pre", { tabindex: 0 });
  if (kind === "text" && output.size_bytes < 2e6) api(`download/${job.id}?index=${output.index}`, { whole: true }).then((answer) => answer.text()).then((text) => { place.textContent = text; }, tellProblem);
  else place.textContent = `${output.content_type}, ${bytes(output.size_bytes)}: download it to look at it.`;
  return place;
}

// Fit, 100 %, and zoom by wheel and pinch.
function zoomable(canvas) {
  let factor = 0;
  const picture = () => canvas.querySelector("img");
  const set = (next) => {
    const img = picture();
    if (!img) return;
    factor = next && Math.max(0.1, Math.min(8, next));
    canvas.classList.toggle("zoomed", factor > 0);
    canvas.style.setProperty("--zoom-width", `${img.naturalWidth * factor}px`);
  };
  const now = () => factor || (picture()?.clientWidth ?? 1) / (picture()?.naturalWidth || 1);
  canvas.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey && !factor && !canvas.closest("dialog")) return; // the page scrolls
    event.preventDefault();
    set(now() * (event.deltaY < 0 ? 1.15 : 1 / 1.15));
  }, { passive: false });
  const fingers = new Map();
  let spread = 0;
  canvas.addEventListener("pointerdown", (event) => { if (event.pointerType === "touch") fingers.set(event.pointerId, event); });
  canvas.addEventListener("pointermove", (event) => {
    if (!fingers.has(event.pointerId)) return;
    fingers.set(event.pointerId, event);
    if (fingers.size !== 2) return;
    const [a, b] = fingers.values(), apart = Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
    if (spread) set((now() * apart) / spread);
    spread = apart;
  });
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => { fingers.delete(event.pointerId); spread = 0; });
  return { set, now };
}

const line = (name, value, copied = true) => [h("dt", name), h("dd", h("bdi", value)),
  h("dd", copied && iconButton("copy", `Copy ${name}`, () => copy(value)))];

function parameters(job) {
  const all = Object.entries(job.parameters);
  if (!all.length) return h("p.soft.small", "All defaults of the model.");
  return h("dl.pairs", all.map(([name, value]) => line(name, bare(value))));
}

function facts(job, output) {
  const asked = job.route?.requested?.join(", ");
  const said = [["Model", job.model_name], ["Provider", job.provider], job.external_job_id && ["Prediction", job.external_job_id],
    output?.width && ["Size", `${output.width} × ${output.height}`, false], output && ["File", `${output.content_type}, ${bytes(output.size_bytes)}`, false],
    output?.duration_seconds && ["Length", seconds(output.duration_seconds), false], output && ["SHA-256", output.sha256], ["Created", when(job.created_at), false],
    job.completed_at && ["Ended", `${when(job.completed_at)}, after ${seconds(elapsed(job))}`, false], job.cost && ["Cost", bare(job.cost.amount ?? job.cost), false], asked && asked !== job.model_name && ["Asked for", asked, false], ...(job.route?.tried ?? []).map((one) => ["Tried", `${one.provider} · ${one.model_name}: ${one.reason}`, false]), ["Id", job.id]];
  return h("dl.pairs", said.filter(Boolean).map((one) => line(...one)));
}

function asCode(language, job) {
  const body = { prompt: job.prompt, model_name: job.model_name, provider: job.provider };
  if (Object.keys(job.parameters).length) body.parameters = job.parameters;
  if (job.priority !== 5) body.priority = job.priority;
  return code(language, body, { base, keyed: Boolean(key.get()) });
}

function tags(job) {
  const change = (next) => attempt(async () => put(await api(`jobs/${job.id}`, { method: "PATCH", json: { tags: next } }), "event"));
  const input = h("input", { placeholder: "Add a tag", "aria-label": "Add a tag", maxlength: 64, onkeydown: (event) => {
    if (event.key === "Enter" && input.value.trim()) change([...new Set([...job.tags, input.value.trim()])]);
  } });
  return h("div.tags", job.tags.map((tag) => h("span.chip", h("a", { href: address("gallery", { tag }), title: "All jobs with this tag" }, h("bdi", tag)),
    h("button", { "aria-label": `Remove the tag ${tag}`, onclick: () => change(job.tags.filter((one) => one !== tag)) }, icon("x")))), input);
}

async function purge(job) {
  if (!await confirm("Delete the files of this job? What was asked for, and its history, stay in the list.", "Delete")) return;
  attempt(async () => put((await api(`jobs/${job.id}?purge=true`, { method: "DELETE" })).job, "event"), () => toast("Deleted"));
}

// Returns {el, stop, keys}: what each key does, once the job is known. `move(step)` goes to another job, `close()` to where one came from.
export function jobView(id, { close, move, output: first = 0 }) {
  const canvas = h("div.canvas", { tabindex: -1 }), strip = h("div.strip", { role: "group", "aria-label": "Outputs" }), side = h("aside.side", { "aria-label": "About this job", tabindex: 0 });
  const history = h("div", h("p.soft.small", "…"));
  const zoom = zoomable(canvas);
  let job = jobs.get(id), at = first, drawn = "";
  const tools = h("div.tools", close && iconButton("x", "Close", close), move && iconButton("left", "Previous job", () => move(-1)), move && iconButton("right", "Next job", () => move(1)), h("span.sp"),
    h("button.text", { onclick: () => zoom.set(0) }, "Fit"), h("button.text", { onclick: () => zoom.set(1) }, "100 %"),
    iconButton("plus", "Larger", () => zoom.set(zoom.now() * 1.4)), iconButton("panel", "Show or hide the panel", () => el.classList.toggle("alone")));
  const el = h("article.job", h("div.stage", tools, canvas, strip), side);

  function drawCanvas() {
    const output = job.purged_at ? null : job.outputs[at];
    const now = `${output?.url ?? job.status}${at}`;
    if (now === drawn) return;
    drawn = now;
    zoom.set(0);
    swap(canvas, output ? shown(job, output) : h("div.empty", icon(job.purged_at ? "trash" : job.status === "failed" ? "alert" : unfinished(job) ? "clock" : kindIcon(job.kind)),
      job.purged_at ? `Files were removed on ${dayOf(job.purged_at)}` : job.status === "failed" ? job.error_message ?? "It failed" : unfinished(job) ? "Not made yet" : "It was cancelled"));
    strip.hidden = job.outputs.length < 2 || Boolean(job.purged_at);
    swap(strip, job.outputs.map((one, index) => h("button", { "aria-current": String(index === at), "aria-label": `Output ${index + 1} of ${job.outputs.length}`, onclick: () => { at = index; drawn = ""; draw(); } },
      one.content_type.startsWith("image/") ? h("img", { src: thumbnail(one, "320") ?? mediaUrl(one.url), alt: "", loading: "lazy" }) : icon(kindIcon(one.content_type.split("/")[0])))));
  }

  function draw() {
    drawCanvas();
    const output = job.outputs[at], why = reason(job), seed = job.parameters.seed;
    const focus = side.contains(document.activeElement) ? document.activeElement.getAttribute("aria-label") : null;
    swap(side, h("div.row.wrap", h("span.status", { role: "status" }, dot(job.status), job.purged_at ? "Files removed" : STATUS[job.status]), why && h("span.small.warn", why),
      typeof job.progress === "number" && job.status === "processing" && h("span.small.soft.num", `${Math.round(job.progress * 100)} %`)),
    job.status === "failed" && h("p.note.danger", job.error_message, job.error_code && h("span.soft", ` (${job.error_code})`)),
    h("section", h("h1.vh", "Job"), h("p.prompt", { dir: "auto" }, titleOf(job)), job.prompt && action("copy", "Copy prompt", () => copy(job.prompt))),
    h("div.row.wrap", action("again", "Again with changes", () => again(job), "second"), unfinished(job) && action("x", "Cancel", () => cancel(job), "second"),
      ["failed", "cancelled"].includes(job.status) && action("again", "Retry", () => retry(job), "second"), output && !job.purged_at && action("save", "Download", () => save(job, at), "second"),
      h("button.second", { "aria-pressed": String(job.favourite), onclick: () => favourite(job) }, icon("heart"), job.favourite ? "Favourite ✓" : "Favourite")),
    tags(job),
    part("Parameters", parameters(job), Object.keys(job.parameters).length > 1 && action("copy", "Copy all", () => copy(JSON.stringify(job.parameters, null, 2))), seed !== undefined && action("dice", `Use seed ${seed}`, () => go(address("", { seed })))),
    part("Facts", facts(job, output)), part("History", history),
    part("As code", h("pre.block", { tabindex: 0 }, asCode("curl", job)), h("div.row.wrap", Object.keys(LANGUAGES).map((language) => action("copy", language, () => copy(asCode(language, job)))))),
    !unfinished(job) && !job.purged_at && h("div", action("trash", "Delete files", () => purge(job), "text danger")));
    if (focus) side.querySelector(`[aria-label="${CSS.escape(focus)}"]`)?.focus();
  }

  async function load() {
    try {
      job = put(await api(`jobs/${id}`));
      draw();
      swap(history, timeline(await api(`jobs/${id}/history`)));
    } catch (error) {
      if (job) swap(history, trouble(error, load));
      else swap(side, h("h1", "Job"), error.status === 404 ? h("p.note", "There is no such job.") : trouble(error, load));
    }
  }
  if (job) draw();
  load();
  const stop = subscribe((ids) => {
    if (!ids.has(id) || !jobs.has(id)) return;
    const status = job?.status;
    job = jobs.get(id);
    draw();
    if (status !== job.status) api(`jobs/${id}/history`).then((found) => swap(history, timeline(found)), () => {});
  });
  const keys = {
    ArrowLeft: move && (() => move(-1)), ArrowRight: move && (() => move(1)), ArrowUp: () => turn(-1), ArrowDown: () => turn(1), f: () => favourite(job), a: () => again(job), d: () => save(job, at),
    c: () => copy(job.prompt), Delete: () => !unfinished(job) && purge(job), i: () => el.classList.toggle("alone"), Escape: close,
  };
  function turn(step) { if (job.outputs[at + step]) { at += step; drawn = ""; draw(); } }
  return { el, stop, get keys() { return job ? keys : null; } };
}
