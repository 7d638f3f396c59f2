// The request that is being typed, as code.
import { h, icon } from "../lib/dom.js";
import { base, key } from "../lib/api.js";
import { tellProblem } from "./toast.js";

const LANGUAGES = ["curl", "Python", "CLI", "JSON"];

export function codeBox(choose) {
  let said = null, code = null; // loaded beside the form
  import("../lib/code.js").then((loaded) => { code = loaded.code; if (said) draw(...said); }, tellProblem);
  const shown = h("code", {});
  const tabs = LANGUAGES.map((language) => h("button", { type: "button", role: "tab", id: `tab-${language}`, "aria-controls": "code", "data-language": language, onclick: () => choose(language),
    onkeydown: (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (step) tabs[(tabs.indexOf(event.target) + step + tabs.length) % tabs.length].focus();
    } }, language));
  const pre = h("pre", { class: "block", id: "code", role: "tabpanel", tabindex: 0 }, shown);
  const word = h("span", { "data-word": "", "aria-live": "polite" }, "Copy");
  const el = h("div", { class: "code" }, h("div", { class: "code-bar" }, h("div", { role: "tablist", class: "row", "aria-label": "The same request as code" }, tabs), h("span", { class: "sp" }),
    h("button", { type: "button", class: "copy", onclick: async ({ currentTarget }) => (await import("./copy.js")).copy(shown.textContent, currentTarget) }, icon("copy"), word)), pre);

  function draw(language, body, example) {
    said = [language, body, example];
    if (code) shown.textContent = code(language, { ...body, prompt: body.prompt || example }, { base, keyed: Boolean(key.get()) });
    pre.setAttribute("aria-labelledby", `tab-${language}`);
    for (const tab of tabs) tab.setAttribute("aria-selected", String(tab.dataset.language === language));
  }
  return { el, draw };
}
