// What stands where no tile is: a skeleton while the first page loads, words when there is none.
import { h } from "../lib/dom.js";
import { base } from "../lib/api.js";
import { address, go, replace, route } from "../lib/router.js";
import { fill } from "./ask.js";

const EXAMPLES = ["A lighthouse on a basalt cliff, long exposure", "Portrait of an owl as a Dutch master", "A paper boat crossing a puddle, macro"];

export const skeleton = () => h("div", { class: "row wrap", role: "status", "aria-label": "Loading" }, [240, 168, 130, 300, 200].map((width) => {
  const one = h("div", { class: "skeleton" });
  one.style.width = `${width}px`;
  one.style.height = "168px";
  return one;
}));

export function empty(filters) {
  if (Object.keys(filters).length) {
    return h("div", { class: "card empty" }, h("p", {}, "No job matches."), h("button", { type: "button", class: "second", onclick: () => replace(address(route().name === "create" ? "" : "gallery")) }, "Clear filters"));
  }
  return h("div", { class: "card empty" }, h("p", {}, "Nothing here yet."), h("div", { class: "row wrap" }, EXAMPLES.map((one) =>
    h("button", { type: "button", class: "chip", onclick: () => { go("#/"); setTimeout(() => fill({ prompt: one }), 0); } }, one))),
  h("pre", { class: "block", tabindex: 0 }, `curl ${base}/api/v1/generate --json '{"prompt": "${EXAMPLES[0]}"}'`));
}
