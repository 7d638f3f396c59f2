import { dialog, h, labelled } from "../lib/dom.js";
import { key } from "../lib/api.js";

let open = null;

// Asks for a key until there is one; calls at the same time share the dialog.
export function askForKey(reason) {
  open ??= new Promise((resolve) => {
    const field = h("input", { type: "password", id: "key", autocomplete: "off", spellcheck: "false", required: true, "aria-describedby": "key-note" });
    let done = false;
    const form = h("form.stack", { onsubmit: (event) => {
      event.preventDefault();
      if (!field.value.trim()) return;
      key.set(field.value.trim());
      done = true;
      box.close();
      open = null;
      resolve();
      dispatchEvent(new Event("fleek:key"));
    } },
    reason && h("p.note.danger", { role: "alert" }, reason),
    labelled("API key", field),
    h("p.small.soft", { id: "key-note" }, "It is kept in this tab only, until you close it or press “Forget key”."),
    h("button.primary", { type: "submit" }, "Continue"));
    const box = dialog("This service needs a key", form, { must: true, onclose: () => {
      if (!done) setTimeout(() => { document.body.append(box); box.showModal(); }, 0);
    } });
    field.focus();
  });
  return open;
}
