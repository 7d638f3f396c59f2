// The sheet of all shortcuts.
import { dialog, h } from "../lib/dom.js";
import { setSingle, single } from "../lib/keys.js";

const SHORTCUTS = [
  ["Ctrl Enter", "Send the job"], ["/", "Search"], ["n", "New job: to the prompt"], ["1 – 5", "Create, Gallery, Queue, Models, System"], ["t", "Light, dark, system"], ["?", "These shortcuts"],
  ["← → ↑ ↓", "In the gallery: from tile to tile"], ["← →", "In a job: the one before, the next"], ["↑ ↓", "In a job: its outputs"], ["f", "Favourite"], ["a", "Again with changes"], ["d", "Download"],
  ["c", "Copy the prompt"], ["Delete", "Delete the files"], ["i", "Show or hide the panel"], ["Esc", "Close"],
];

export function showShortcuts() {
  dialog("Shortcuts", [h("dl.pairs", SHORTCUTS.map(([keys, words]) => [h("dt", h("kbd", keys)), h("dd", words), h("dd")])),
    h("label.row", h("input", { type: "checkbox", checked: single(), onchange: (event) => setSingle(event.target.checked) }), "Single letters are shortcuts")]);
}
