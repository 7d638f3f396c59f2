// The prompts that were sent from this tab.
import { dialog, h } from "../lib/dom.js";
import { kept } from "../lib/kept.js";

const PROMPTS = "fleek.prompts", MOST = 50;

export function remember(text) {
  const all = [text, ...kept(PROMPTS, []).filter((one) => one !== text)].slice(0, MOST);
  try { sessionStorage.setItem(PROMPTS, JSON.stringify(all)); } catch { /* full */ }
}

export function pickPrompt(use) {
  const all = kept(PROMPTS, []);
  const box = dialog("Prompts before", [h("h2", {}, "Prompts before"), all.length
    ? h("div", { class: "options" }, all.map((one) => h("button", { type: "button", class: "option", onclick: () => { box.close(); use(one); } }, h("span", { class: "cut" }, one))))
    : h("p", { class: "soft" }, "What you send is listed here, in this tab only.")]);
}
