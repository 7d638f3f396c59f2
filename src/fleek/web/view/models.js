// The models: a dialog to choose one, and a page of them. Loaded when either is opened.
import { dialog, h, icon, swap } from "../lib/dom.js";
import { api } from "../lib/api.js";
import { loadModels } from "../lib/catalogue.js";
import { kindIcon } from "../lib/format.js";
import { address, go } from "../lib/router.js";
import { page } from "./page.js";
import { trouble } from "./toast.js";

const price = (model) => Object.entries(model.price ?? {}).map(([unit, usd]) => `$${usd} per ${unit.replace(/^per_/, "")}`).join(", ");

const words = (model) => `${model.name} ${model.provider} ${model.description} ${model.output}`.toLowerCase();
const matching = (all, text) => {
  const said = text.toLowerCase().split(/\s+/).filter(Boolean);
  return all.filter((model) => said.every((word) => words(model).includes(word)));
};
const about = (model) => [
  h("span.art.soft", icon(kindIcon(model.output))),
  h("span.stack-0", h("b", model.name), model.default && h("span.badge", "default"),
    h("span.small.soft", ` ${model.provider}${model.output ? ` · ${model.output}` : ""}`),
    h("span.small.soft.block", h("br"), model.description)),
];

export async function pickModel(current) {
  const all = await loadModels();
  return new Promise((resolve) => {
    let found = all, at = Math.max(0, all.findIndex((one) => one.name === current?.name)), chosen = null;
    const list = h("div.options", { role: "listbox", id: "models", "aria-label": "Models", tabindex: -1 });
    const search = h("input", { type: "search", placeholder: "Search, or owner/name", "aria-label": "Search models", role: "combobox", "aria-expanded": "true", "aria-controls": "models", autocomplete: "off",
      oninput: () => { found = matching(all, search.value); at = 0; draw(); }, onkeydown: async (event) => {
        const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
        if (step) { event.preventDefault(); at = Math.max(0, Math.min(found.length - 1, at + step)); draw(); }
        if (event.key !== "Enter") return;
        event.preventDefault();
        if (found[at]) take(found[at]);
        else if (search.value.includes("/")) other(search.value.trim());
      } });
    const note = h("p.note", { hidden: true, role: "status" });
    const take = (model) => { chosen = model; box.close(); };
    async function other(name) {
      try { take(await api(`models/${name.split("/").map(encodeURIComponent).join("/")}`)); } catch (error) { note.hidden = false; note.textContent = error.message; }
    }
    function draw() {
      swap(list, found.map((model, index) => h("div.option", { role: "option", id: `model-${index}`, "aria-selected": String(index === at), onclick: () => take(model) }, about(model))));
      if (found[at]) search.setAttribute("aria-activedescendant", `model-${at}`);
      note.hidden = found.length > 0;
      note.textContent = search.value.includes("/") ? "Press Enter to use a model by its name." : "No model matches.";
      list.querySelector("[aria-selected=true]")?.scrollIntoView({ block: "nearest" });
    }
    const box = dialog("Choose a model", [h("div.field-box", search), note, list], { onclose: () => resolve(chosen) });
    draw();
    search.focus();
  });
}

export function modelsPage() {
  const list = h("div.lines.card");
  const search = h("input", { type: "search", placeholder: "Search models", "aria-label": "Search models", oninput: () => draw() });
  let all = [];
  const line = (model) => h("div", h("span.row.sp", about(model)), model.price && h("span.small.soft.num", price(model)),
    h("button.second", { "aria-label": `Use ${model.name}`, onclick: () => go(address("", { model: model.name })) }, "Use"));
  const draw = () => swap(list, matching(all, search.value).map(line));
  const load = () => loadModels(true).then((found) => { all = found; draw(); }, (error) => swap(list, trouble(error, load)));
  load();
  return page("Models", h("label.find", icon("search"), search), list);
}
