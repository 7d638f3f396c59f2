// A job over the gallery.
import { h, swap } from "../lib/dom.js";
import { address, route } from "../lib/router.js";
import { jobView } from "./job.js";

let box = null, view = null;
export const opened = () => view;

// `neighbour(id, step)` is the job before or after another one.
export function open(id, neighbour) {
  const move = (step) => {
    const next = neighbour(route().id, step);
    if (next) { history.replaceState(history.state, "", address(`jobs/${next}`)); open(next, neighbour); }
  };
  view?.stop();
  view = jobView(id, { close: () => history.back(), move });
  if (!box) {
    box = h("dialog.lightbox", { "aria-label": "Job", oncancel: (event) => { event.preventDefault(); history.back(); } });
    document.body.append(box);
    swap(box, view.el);
    box.showModal();
  } else swap(box, view.el);
  box.dataset.job = id;
}

// Closes it; returns the job that it showed, or null if it is not open.
export function close() {
  if (!box) return null;
  view.stop();
  view = null;
  const id = box.dataset.job;
  box.close();
  box.remove();
  box = null;
  return id;
}
