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
  const box = dialog("Prompts before", all.length
    ? h("div.options", all.map((one) => h("button.option", { onclick: () => { box.close(); use(one); } }, h("span.cut", one))))
    : h("p.soft", "What you send is listed here, in this tab only."));
}
