// What pages have in common.
import { h } from "../lib/dom.js";

export const page = (title, beside, ...content) => h("div.narrow", h("div.head", h("h1.sp", title), beside), content);
export const section = (title, ...content) => h("section.stack", h("h2", title), content);
export const fact = (value, words) => h("div.fact.card", h("b.num", value), h("span", words));
export const dot = (state) => h("span", { class: `dot ${state}` });
