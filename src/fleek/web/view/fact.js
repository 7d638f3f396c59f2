import { h } from "../lib/dom.js";

export const fact = (value, words) => h("div", { class: "fact card" }, h("b", { class: "num" }, value), h("span", {}, words));
