import { h } from "../lib/dom.js";

const box = h("div", { class: "toasts", popover: "manual", role: "status", "aria-live": "polite" });
document.body.append(box);

// Says something for some seconds; `action`: {text, run}.
export function toast(text, action) {
  const one = h("div", { class: "toast" }, h("span", {}, text),
    action && h("button", { type: "button", onclick: () => { one.remove(); action.run(); } }, action.text));
  box.append(one);
  if (box.matches(":popover-open")) box.hidePopover(); // so that it lies above a dialog that was opened since
  box.showPopover();
  setTimeout(() => { one.remove(); if (!box.children.length && box.matches(":popover-open")) box.hidePopover(); }, 6000);
}

export const tellProblem = (error) =>
  toast(error.requestId ? `${error.message} (request ${error.requestId.slice(0, 8)})` : error.message);

// What stands in place of a part that could not be loaded.
export const trouble = (error, again) =>
  h("div", { class: "note danger row wrap", role: "alert" }, h("span", { class: "sp" }, error.message,
    error.requestId && h("small", { class: "soft" }, ` Request ${error.requestId}`)),
  h("button", { type: "button", class: "second", onclick: again }, "Retry"));
