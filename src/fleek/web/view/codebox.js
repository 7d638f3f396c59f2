// The request that is being typed, as code.
import { h, icon, swap } from "../lib/dom.js";
import { base, key } from "../lib/api.js";
import { code, LANGUAGES } from "../lib/code.js";

// Fills `place`, and returns what draws a request; `choose(language)` is called when a tab is pressed.
export function codeBox(place, choose) {
  const shown = h("code");
  const tabs = Object.keys(LANGUAGES).map((language) => h("button", { role: "tab", id: `tab-${language}`, "aria-controls": "code", onclick: () => choose(language),
    onkeydown: (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (step) tabs.at((tabs.indexOf(event.target) + step) % tabs.length).focus();
    } }, language));
  const pre = h("pre.block", { id: "code", role: "tabpanel", tabindex: 0 }, shown);
  swap(place, h("div.code-bar", h("div.row", { role: "tablist", "aria-label": "The same request as code" }, tabs), h("span.sp"),
    h("button.copy", { onclick: async ({ currentTarget }) => (await import("./copy.js")).copy(shown.textContent, currentTarget) }, icon("copy"), h("span", { "data-word": "", "aria-live": "polite" }, "Copy"))), pre);

  return (language, body, example) => {
    shown.textContent = code(language, { ...body, prompt: body.prompt || example }, { base, keyed: Boolean(key.get()) });
    pre.setAttribute("aria-labelledby", `tab-${language}`);
    for (const tab of tabs) tab.ariaSelected = String(tab.textContent === language);
  };
}
