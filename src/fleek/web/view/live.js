// What is unfinished, and what failed since this page was opened.
import { h, icon, iconButton, patch, swap } from "../lib/dom.js";
import { api, post } from "../lib/api.js";
import { kindOf } from "../lib/catalogue.js";
import { at, count, elapsed, kindIcon, modelName, now, seconds, things, titleOf, tryOf } from "../lib/format.js";
import { jobs, put, running, subscribe, unfinished } from "../lib/store.js";
import { preview } from "./preview.js";
import { attempt } from "./toast.js";

const failed = new Map(); // by id; null once it was dismissed or tried again: a late event must not show it anew
const touched = new Set(); // ids of rows that were cancelled, dismissed or tried again here: they go at once
const opened = new Date(Date.now() - 5000).toISOString();

export const cancel = (job) => attempt(async () => {
  const answer = await api(`jobs/${job.id}/cancel`, { method: "POST", repeatable: true });
  touched.add(job.id);
  return put(answer.job, "event");
});
export const retry = (job) => attempt(async () => {
  const next = await post(`jobs/${job.id}/retry`, undefined, { "Idempotency-Key": `retry-${job.id}-${job.updated_at}` });
  letGo(job.id);
  return put(next, "event");
});

function letGo(id) {
  touched.add(id);
  failed.set(id, null);
  redraw();
}

export function reason(job) {
  const waiting = job.retrying;
  if (waiting) {
    if (waiting.code === "waiting_for_input") return "waits for another job";
    return `${waiting.reason}; ${tryOf(Math.min(job.retry_count + 1, job.max_attempts), job.max_attempts)}`;
  }
  if (job.status === "pending" && Date.parse(job.run_at) > now() + 2000) return `starts at ${at(job.run_at)}`;
  return "";
}

const outputs = (job) => Number(job.parameters?.num_outputs ?? job.parameters?.num_images ?? job.parameters?.n ?? 1);
const about = (job) => `${modelName(job.model_name)} · ${things(outputs(job), kindOf(job))}`;

function make(job) {
  const start = preview(job.parameters?.image);
  return h("li", { "data-job": job.id },
    h("span.thumb", start && h("img", { src: start, alt: "" })),
    h("a.what", { href: `#/jobs/${job.id}` }, h("b.cut", h("bdi", titleOf(job))), h("small.cut")),
    h("span.meter", { role: "progressbar", "aria-label": "Progress", "aria-valuemin": 0, "aria-valuemax": 100 }, h("i")),
    h("time.num"), h("span.row.acts"));
}

function update(el, job) {
  const [thumb, what, meter, time, acts] = el.children;
  const isFailed = job.status === "failed", percent = typeof job.progress === "number" ? Math.round(job.progress * 100) : null;
  time.textContent = seconds(elapsed(job));
  const why = reason(job), small = what.lastChild;
  const place = job.status === "pending" && !why ? running().filter((one) => one.status === "pending").indexOf(job) : -1;
  const line = place < 0 ? "" : place === 0 ? " · next in line" : ` · ${count(place)} before it`;
  small.textContent = isFailed ? job.error_message ?? "It failed" : why || `${about(job)}${line}`;
  small.className = `cut ${isFailed ? "danger" : job.retrying ? "warn" : ""}`;
  meter.style.visibility = job.status === "processing" ? "" : "hidden"; // it keeps its column
  meter.classList.toggle("wait", percent === null);
  meter.ariaValueNow = percent;
  meter.firstChild.style.setProperty("--done", `${percent}%`);
  if (el.dataset.state === job.status) return;
  el.dataset.state = job.status;
  if (!thumb.querySelector("img")) swap(thumb, icon(isFailed ? "alert" : job.status === "pending" ? "clock" : kindIcon(kindOf(job))));
  swap(acts, isFailed
    ? [h("button.text", { onclick: () => retry(jobs.get(job.id) ?? job) }, "Retry"),
      iconButton("x", "Dismiss this failed job", () => letGo(job.id))]
    : [iconButton("x", "Cancel this job", () => cancel(job))]);
}

const lists = new Set(); // what draws each of them
let hovered = false, total = 0;

function redraw() {
  const all = [...[...failed.values()].filter(Boolean).reverse(), ...running()];
  const run = all.filter((job) => job.status === "processing").length;
  total = all.filter(unfinished).length;
  for (const draw of lists) draw(all, `${count(run)} running, ${count(total - run)} waiting`);
  for (const badge of document.querySelectorAll("[data-unfinished]")) {
    badge.hidden = total === 0;
    badge.textContent = total > 99 ? "99+" : total;
    badge.ariaLabel = `${total} unfinished`;
  }
}

subscribe((ids) => {
  for (const id of ids) {
    const job = jobs.get(id);
    if (job?.status === "failed" && job.updated_at > opened && !failed.has(id)) failed.set(id, job);
    else if (failed.has(id) && job?.status !== "failed") failed.delete(id);
  }
  redraw();
});
setInterval(() => { if (total && !document.hidden) redraw(); }, 1000);

// A list of at most `most` rows; each call makes another one, for its own page.
export function liveList({ most, always = false, title = "In progress", more = true }) {
  const sub = h("span.sub.num"), none = h("div.card.empty", "Nothing is waiting and nothing is running.");
  const rows = h("ul.live.card", { "aria-live": "off", onpointerenter: () => { hovered = true; }, onpointerleave: () => { hovered = false; redraw(); } });
  const el = h("section", { "aria-label": title }, h("div.head", h("h2", title), sub, h("span.sp"), more && h("a.text", { href: "#/queue" }, "Show all")), rows, none);
  function draw(all, words) {
    const shown = all.slice(0, most);
    el.hidden = !always && all.length === 0;
    none.hidden = all.length > 0;
    rows.hidden = all.length === 0;
    sub.textContent = words;
    if (!hovered || shown.length >= rows.children.length) patch(rows, shown, (job) => job.id, make, update);
    else for (const row of [...rows.children]) { // nothing moves under the pointer, but what it has pressed
      const job = jobs.get(row.dataset.job);
      if (job && unfinished(job)) update(row, job);
      else if (touched.has(row.dataset.job) && !shown.some((one) => one.id === row.dataset.job)) row.remove();
    }
  }
  lists.add(draw);
  redraw();
  return { el, stop: () => lists.delete(draw) };
}

export async function loadLive() {
  const [pending, processing] = await Promise.all(["pending", "processing"].map((status) => api(`jobs?status=${status}&limit=100`)));
  const seen = new Set([...pending, ...processing].map((job) => job.id));
  const stale = running().filter((job) => !seen.has(job.id));
  for (const job of [...pending, ...processing]) put(job);
  await Promise.all(stale.slice(0, 50).map(async (job) => {
    try { put(await api(`jobs/${job.id}`), "event"); } catch { /* asked again with the next one */ }
  }));
  redraw();
}
