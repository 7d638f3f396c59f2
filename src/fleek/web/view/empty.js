// What stands where there is no tile.
import { h } from "../lib/dom.js";
import { base } from "../lib/api.js";
import { address, go, replace, route } from "../lib/router.js";
import { fill } from "./ask.js";

const EXAMPLES = ["A lighthouse on a basalt cliff, long exposure", "Portrait of an owl as a Dutch master", "A paper boat crossing a puddle, macro"];

export function empty(filters) {
  if (Object.keys(filters).length) {
    return h("div.card.empty", h("p", "No job matches."), h("button.second", { onclick: () => replace(address(route().name === "create" ? "" : "gallery")) }, "Clear filters"));
  }
  return h("div.card.empty", h("p", "Nothing here yet."), h("div.row.wrap", EXAMPLES.map((one) =>
    h("button.chip", { onclick: () => { go("#/"); setTimeout(() => fill({ prompt: one }), 0); } }, one))),
  h("pre.block", { tabindex: 0 }, `curl ${base}/api/v1/generate --json '{"prompt": "${EXAMPLES[0]}"}'`));
}
