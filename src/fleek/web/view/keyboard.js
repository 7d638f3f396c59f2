// Shortcuts. Single letters can be switched off, and never act in a text field.
import { typing } from "../lib/dom.js";
import { single } from "../lib/keys.js";
import { go } from "../lib/router.js";

const PAGES = ["#/", "#/gallery", "#/queue", "#/models", "#/system"];
const focus = (id, route) => { // where it is not shown, after the page with it
  const shown = document.getElementById(id);
  if (shown) return shown.focus();
  go(route);
  return setTimeout(() => document.getElementById(id)?.focus(), 50);
};
const KEYS = {
  "?": async () => (await import("./shortcuts.js")).showShortcuts(),
  t: () => document.getElementById("theme").click(),
  n: () => focus("prompt", "#/"),
  "/": () => focus("search", "#/gallery"),
  ...Object.fromEntries(PAGES.map((route, at) => [at + 1, () => go(route)])),
};

// `shown()` is the job that is shown, if there is one.
export function shortcuts(shown) {
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || typing() || document.querySelector("dialog:not(.lightbox)")) return;
    const name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (name.length === 1 && !single() && name !== "?") return;
    const over = document.querySelector(".lightbox"), act = shown()?.[name] ?? (over && name !== "?" ? null : KEYS[name]);
    if (!act) return;
    event.preventDefault();
    act();
  });
}
