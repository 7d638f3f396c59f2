// What is loaded beside the form: what is in progress, the wall, what happens, shortcuts.
import { liveList } from "./live.js";

export { shortcuts } from "./keyboard.js";
export { start } from "./follow.js";
export { focusTile, gallery, neighbour, redraw, show } from "./gallery.js";
export const inProgress = liveList({ most: 3 }).el;
