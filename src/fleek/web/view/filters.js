// The filters of the gallery. All of them are in the address.
import { h, icon, later } from "../lib/dom.js";
import { loadModels } from "../lib/catalogue.js";
import { address, replace, route } from "../lib/router.js";

const NAMES = ["q", "status", "kind", "model", "provider", "fav", "tag", "from", "to"];
export const filtersOf = (query) => Object.fromEntries(NAMES.filter((name) => query.get(name)).map((name) => [name, query.get(name)]));

const midnight = (day, add = 0) => new Date(Date.parse(`${day}T00:00:00Z`) + add * 864e5).toISOString();

// The query of the API. Without a status: what has completed, which a kind and a favourite imply.
export function asked(filters) {
  const query = new URLSearchParams();
  const { q, status, kind, model, provider, fav, tag, from, to } = filters;
  if (status && status !== "all") query.set("status", status);
  else if (!status && !kind && !fav) query.set("status", "completed");
  if (q && /[\p{L}\p{N}_]/u.test(q)) query.set("q", q.split(/[^\p{L}\p{N}_]+/u).filter(Boolean).slice(0, 8).join(" ").slice(0, 200));
  for (const [name, value] of Object.entries({ kind, model, provider, tag })) if (value) query.set(name, value);
  if (fav) query.set("favourite", "true");
  if (from) query.set("created_after", midnight(from));
  if (to) query.set("created_before", midnight(to, 1));
  return query;
}

// Whether a page can be read from anywhere: one filter at most, which an index answers.
export const anywhere = (query) => [...query.keys()].length <= 1 && !["q", "created_after", "created_before"].some((name) => query.has(name));

// Whether a job belongs to the list, as far as this page can tell.
export function belongs(job, filters) {
  const { q, status, kind, model, provider, fav, tag, from, to } = filters;
  const day = job.created_at.slice(0, 10), prompt = job.prompt.toLowerCase();
  return (status === "all" || job.status === (status || (fav ? job.status : "completed")))
    && (!kind || job.kind === kind) && (!model || job.model_name === model) && (!provider || job.provider === provider)
    && (!fav || job.favourite) && (!tag || job.tags.includes(tag)) && (!from || day >= from) && (!to || day <= to)
    && (!q || q.toLowerCase().split(/[^\p{L}\p{N}_]+/u).every((word) => prompt.includes(word)));
}

export function filterBar() {
  const set = (name, value) => {
    const at = route();
    if (at.name !== "create" && at.name !== "gallery") return; // typed, then gone elsewhere
    const next = { ...filtersOf(at.query), [name]: value };
    replace(address(at.name === "create" ? "" : "gallery", next));
  };
  const chip = (name, label, choices) => {
    const el = h("select.chip", { "aria-label": label, onchange: () => set(name, el.value) }, choices.map(([value, word]) => h("option", { value }, word)));
    return el;
  };
  const search = h("input", { type: "search", id: "search", placeholder: "Search prompts", "aria-label": "Search prompts", maxlength: 200, oninput: later(() => set("q", search.value.trim()), 250) });
  const status = chip("status", "Status", [["", "Completed"], ["failed", "Failed"], ["cancelled", "Cancelled"], ["all", "Any status"]]);
  const kind = chip("kind", "Kind", [["", "Any kind"], ["image", "Pictures"], ["video", "Videos"], ["animation", "Animations"], ["audio", "Sound"], ["text", "Text"]]);
  const model = chip("model", "Model", [["", "Any model"]]);
  const heart = h("button.chip", { "aria-pressed": "false", "aria-label": "Favourites only", onclick: () => set("fav", heart.getAttribute("aria-pressed") === "true" ? "" : "1") }, icon("heart"));
  const extra = h("span.row");
  loadModels().then((all) => { model.append(...all.map((one) => h("option", { value: one.name }, one.name.split("/").pop()))); show(filtersOf(route().query)); }).catch(() => {});

  function show(filters) {
    if (document.activeElement !== search) search.value = filters.q ?? "";
    if (filters.model && ![...model.options].some((one) => one.value === filters.model)) model.append(h("option", { value: filters.model }, filters.model));
    for (const [el, name] of [[status, "status"], [kind, "kind"], [model, "model"]]) {
      el.value = filters[name] ?? "";
      el.classList.toggle("on", name === "status" ? true : Boolean(filters[name]));
    }
    heart.setAttribute("aria-pressed", String(Boolean(filters.fav)));
    extra.replaceChildren(...["provider", "tag", "from", "to"].filter((name) => filters[name]).map((name) =>
      h("button.chip.on", { "aria-label": `Remove the filter ${name} ${filters[name]}`, onclick: () => set(name, "") }, `${name} ${filters[name]}`, icon("x"))));
  }
  const find = h("label.find", icon("search"), search, h("kbd", { "aria-hidden": "true" }, "/"));
  return { els: [find, h("div.chips", { role: "group", "aria-label": "Filters" }, status, kind, model, heart, extra)], show };
}
