// Asks before something that cannot be undone.
import { dialog, h } from "./dom.js";

export function confirm(question, action) {
  return new Promise((resolve) => {
    const box = dialog(question,
      h("div.row", h("span.sp"),
        h("button.second", { onclick: () => box.close("") }, "Keep"),
        h("button.second.danger", { onclick: () => box.close("yes") }, action)),
    { onclose: (value) => resolve(value === "yes") });
  });
}
