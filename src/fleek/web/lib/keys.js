// Shortcuts. Single letters can be switched off, and never act in a text field.
import { dialog, h, typing } from "./dom.js";

const OFF = "fleek.shortcuts";
const single = () => localStorage.getItem(OFF) !== "off";
export const SHORTCUTS = [
  ["Ctrl Enter", "Send the job"], ["/", "Search"], ["n", "New job: to the prompt"], ["1 – 5", "Create, Gallery, Queue, Models, System"], ["t", "Light, dark, system"], ["?", "These shortcuts"],
  ["← → ↑ ↓", "In the gallery: from tile to tile"], ["← →", "In a job: the one before, the next"], ["↑ ↓", "In a job: its outputs"], ["f", "Favourite"], ["a", "Again with changes"], ["d", "Download"],
  ["c", "Copy the prompt"], ["Delete", "Delete the files"], ["i", "Show or hide the panel"], ["Esc", "Close"],
];

export function showShortcuts() {
  dialog("Shortcuts", [h("h2", {}, "Shortcuts"), h("dl", { class: "pairs" }, SHORTCUTS.map(([keys, words]) => [h("dt", {}, h("kbd", {}, keys)), h("dd", {}, words), h("dd")])),
    h("label", { class: "row" }, h("input", { type: "checkbox", checked: single(), onchange: (event) => localStorage.setItem(OFF, event.target.checked ? "on" : "off") }), "Single letters are shortcuts")]);
}

// `act(key)` returns whether it did something with it; `send` sends the form.
export function shortcuts({ act, send }) {
  addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      if (send()) event.preventDefault();
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || typing()) return;
    if (event.key.length === 1 && !single() && event.key !== "?") return;
    const name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (act(name)) event.preventDefault();
  });
}
