import { h } from "../lib/dom.js";

const box = h("div.toasts", { popover: "manual", role: "status", "aria-live": "polite" });
document.body.append(box);

// Says something for some seconds; `action`: {text, run}.
export function toast(text, action) {
  const one = h("div.toast", h("span", text),
    action && h("button", { onclick: () => { one.remove(); action.run(); } }, action.text));
  box.append(one);
  if (box.matches(":popover-open")) box.hidePopover(); // so that it lies above a dialog that was opened since
  box.showPopover();
  setTimeout(() => { one.remove(); if (!box.children.length && box.matches(":popover-open")) box.hidePopover(); }, 6000);
}

export const tellProblem = (error) =>
  toast(error.requestId ? `${error.message} (request ${error.requestId.slice(0, 8)})` : error.message);

// Does what a person has asked for, and `then` what follows; where it fails, says why and returns null.
export async function attempt(work, then) {
  try {
    const done = await work();
    then?.();
    return done;
  } catch (error) { tellProblem(error); return null; }
}

// What stands in place of a part that could not be loaded.
export const trouble = (error, again) =>
  h("div.note.danger.row.wrap", { role: "alert" }, h("span.sp", error.message,
    error.requestId && h("small.soft", ` Request ${error.requestId}`)),
  h("button.second", { onclick: again }, "Retry"));
