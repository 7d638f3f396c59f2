// The models: a dialog to choose one, and a page of them. Loaded when either is opened.
import { dialog, h, icon, swap } from "../lib/dom.js";
import { api } from "../lib/api.js";
import { loadModels } from "../lib/catalogue.js";
import { kindIcon } from "../lib/format.js";
import { address, go } from "../lib/router.js";
import { trouble } from "./toast.js";

const price = (model) => Object.entries(model.price ?? {}).map(([unit, usd]) => `$${usd} per ${unit.replace(/^per_/, "")}`).join(", ");

const words = (model) => `${model.name} ${model.provider} ${model.description} ${model.output}`.toLowerCase();
const matching = (all, text) => {
  const said = text.toLowerCase().split(/\s+/).filter(Boolean);
  return all.filter((model) => said.every((word) => words(model).includes(word)));
};
const about = (model) => [
  h("span", { class: "art soft" }, icon(kindIcon(model.output))),
  h("span", { class: "stack-0" }, h("b", {}, model.name), model.default && h("span", { class: "badge" }, "default"),
    h("span", { class: "small soft" }, ` ${model.provider}${model.output ? ` · ${model.output}` : ""}`),
    h("span", { class: "small soft block" }, h("br"), model.description)),
];

export async function pickModel(current) {
  const all = await loadModels();
  return new Promise((resolve) => {
    let found = all, at = Math.max(0, all.findIndex((one) => one.name === current?.name)), chosen = null;
    const list = h("div", { class: "options", role: "listbox", id: "models", "aria-label": "Models", tabindex: -1 });
    const search = h("input", { type: "search", placeholder: "Search, or owner/name", "aria-label": "Search models", role: "combobox", "aria-expanded": "true", "aria-controls": "models", autocomplete: "off",
      oninput: () => { found = matching(all, search.value); at = 0; draw(); }, onkeydown: async (event) => {
        const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
        if (step) { event.preventDefault(); at = Math.max(0, Math.min(found.length - 1, at + step)); draw(); }
        if (event.key !== "Enter") return;
        event.preventDefault();
        if (found[at]) take(found[at]);
        else if (search.value.includes("/")) other(search.value.trim());
      } });
    const note = h("p", { class: "note", hidden: true, role: "status" });
    const take = (model) => { chosen = model; box.close(); };
    async function other(name) {
      try { take(await api(`models/${name.split("/").map(encodeURIComponent).join("/")}`)); } catch (error) { note.hidden = false; note.textContent = error.message; }
    }
    function draw() {
      swap(list, found.map((model, index) => h("div", { class: "option", role: "option", id: `model-${index}`, "aria-selected": String(index === at), onclick: () => take(model) }, about(model))));
      if (found[at]) search.setAttribute("aria-activedescendant", `model-${at}`);
      note.hidden = found.length > 0;
      note.textContent = search.value.includes("/") ? "Press Enter to use a model by its name." : "No model matches.";
      list.querySelector("[aria-selected=true]")?.scrollIntoView({ block: "nearest" });
    }
    const box = dialog("Choose a model", [h("h2", {}, "Model"), h("div", { class: "field-box" }, search), note, list], { onclose: () => resolve(chosen) });
    draw();
    search.focus();
  });
}

export function modelsPage() {
  const list = h("div", { class: "lines card" });
  const search = h("input", { type: "search", placeholder: "Search models", "aria-label": "Search models", oninput: () => draw() });
  let all = [];
  const line = (model) => h("div", {}, h("span", { class: "row sp" }, about(model)), model.price && h("span", { class: "small soft num" }, price(model)),
    h("button", { type: "button", class: "second", "aria-label": `Use ${model.name}`, onclick: () => go(address("", { model: model.name })) }, "Use"));
  const draw = () => swap(list, matching(all, search.value).map(line));
  const load = () => loadModels(true).then((found) => { all = found; draw(); }, (error) => swap(list, trouble(error, load)));
  load();
  return h("div", { class: "narrow" }, h("div", { class: "head" }, h("h1", {}, "Models"), h("span", { class: "sp" }), h("label", { class: "find" }, icon("search"), search)), list);
}
