// What is unfinished, and what failed since this page was opened.
import { h, icon, iconButton, patch } from "../lib/dom.js";
import { api, post } from "../lib/api.js";
import { kindOf } from "../lib/catalogue.js";
import { at, count, elapsed, kindIcon, modelName, now, seconds, things, titleOf, tryOf } from "../lib/format.js";
import { jobs, put, running, subscribe, unfinished } from "../lib/store.js";
import { preview } from "./preview.js";
import { tellProblem } from "./toast.js";

const failed = new Map(); // by id; null once it was dismissed or tried again: a late event must not show it anew
const opened = new Date(Date.now() - 5000).toISOString();
export const live = { total: 0, shown: [] };

export async function cancel(job) {
  try { put((await post(`jobs/${job.id}/cancel`)).job, "event"); } catch (error) { tellProblem(error); }
}
export async function retry(job) {
  try {
    const next = await api(`jobs/${job.id}/retry`, { method: "POST", headers: { "Idempotency-Key": `retry-${job.id}-${job.updated_at}` } });
    failed.set(job.id, null);
    put(next, "event");
    return next;
  } catch (error) { tellProblem(error); return null; }
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
    h("span", { class: "thumb" }, start ? h("img", { src: start, alt: "" }) : icon(job.status === "pending" ? "clock" : kindIcon(kindOf(job)))),
    h("a", { class: "what", href: `#/jobs/${job.id}` }, h("b", { class: "cut" }, h("bdi", {}, titleOf(job))), h("small", { class: "cut" })),
    h("span", { class: "meter", role: "progressbar", "aria-label": "Progress", "aria-valuemin": 0, "aria-valuemax": 100 }, h("i")),
    h("time", { class: "num" }), h("span", { class: "row acts" }));
}

function update(el, job) {
  const [thumb, what, meter, time, acts] = el.children;
  const state = `${job.status}`;
  time.textContent = seconds(Math.max(0, Math.round(elapsed(job) * 10) / 10));
  const why = reason(job), small = what.lastChild;
  const place = job.status === "pending" && !why ? running().filter((one) => one.status === "pending").indexOf(job) : -1;
  const words = job.status === "failed" ? job.error_message ?? "It failed" : why || (place === 0 ? `${about(job)} · next in line` : place > 0 ? `${about(job)} · ${count(place)} before it` : about(job));
  if (small.textContent !== words) small.textContent = words;
  small.className = `cut ${job.status === "failed" ? "danger" : job.retrying ? "warn" : ""}`;
  meter.style.visibility = job.status === "processing" ? "" : "hidden"; // it keeps its column
  const known = typeof job.progress === "number";
  meter.classList.toggle("wait", !known);
  if (known) {
    meter.setAttribute("aria-valuenow", Math.round(job.progress * 100));
    meter.firstChild.style.setProperty("--done", `${Math.round(job.progress * 100)}%`);
  } else meter.removeAttribute("aria-valuenow");
  if (el.dataset.state === state) return;
  el.dataset.state = state;
  if (!thumb.querySelector("img")) thumb.replaceChildren(icon(job.status === "failed" ? "alert" : job.status === "pending" ? "clock" : kindIcon(kindOf(job))));
  acts.replaceChildren(...job.status === "failed"
    ? [h("button", { type: "button", class: "text", onclick: () => retry(jobs.get(job.id) ?? job) }, "Retry"),
      iconButton("x", "Dismiss this failed job", () => { failed.set(job.id, null); redraw(); })]
    : [iconButton("x", "Cancel this job", () => cancel(job))]);
}

const lists = new Set();
let hovered = false;

function redraw() {
  const all = [...[...failed.values()].filter(Boolean).reverse(), ...running()];
  live.total = all.filter(unfinished).length;
  live.shown = all;
  const run = all.filter((job) => job.status === "processing").length;
  const words = `${count(run)} running, ${count(live.total - run)} waiting`;
  for (const list of lists) {
    const shown = all.slice(0, list.most);
    list.section.hidden = !list.always && all.length === 0;
    list.none.hidden = all.length > 0;
    list.el.hidden = all.length === 0;
    if (list.sub.textContent !== words) list.sub.textContent = words;
    if (!hovered || shown.length >= list.el.children.length) patch(list.el, shown, (job) => job.id, make, update);
    else for (const el of list.el.children) { const job = jobs.get(el.dataset.job); if (job && unfinished(job)) update(el, job); }
  }
  for (const badge of document.querySelectorAll("[data-unfinished]")) {
    badge.hidden = live.total === 0;
    badge.textContent = live.total > 99 ? "99+" : String(live.total);
    badge.setAttribute("aria-label", `${live.total} unfinished`);
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
setInterval(() => { if (live.total && !document.hidden) redraw(); }, 1000);

// A list of at most `most` rows; each call makes another one, for its own page.
export function liveList({ most, always = false, title = "In progress", more = true }) {
  const sub = h("span", { class: "sub num" });
  const el = h("ul", { class: "live card", "aria-live": "off", onpointerenter: () => { hovered = true; }, onpointerleave: () => { hovered = false; redraw(); } });
  const none = h("div", { class: "card empty", hidden: true }, "Nothing is waiting and nothing is running.");
  const section = h("section", { "aria-label": title }, h("div", { class: "head" }, h("h2", {}, title), sub, h("span", { class: "sp" }), more && h("a", { class: "text", href: "#/queue" }, "Show all")), el, none);
  const list = { most, always, el, none, sub, section };
  lists.add(list);
  redraw();
  return { el: section, stop: () => lists.delete(list) };
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
