// Asks before something that cannot be undone.
import { dialog, h } from "./dom.js";

export function confirm(question, action) {
  return new Promise((resolve) => {
    const box = dialog(question, [
      h("h2", {}, question),
      h("div", { class: "row" }, h("span", { class: "sp" }),
        h("button", { type: "button", class: "second", onclick: () => box.close("") }, "Keep"),
        h("button", { type: "button", class: "second danger", onclick: () => box.close("yes") }, action)),
    ], { onclose: (value) => resolve(value === "yes") });
  });
}
