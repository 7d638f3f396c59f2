// Days in words, for the headings of the wall.
import { now } from "./format.js";

const date = new Intl.DateTimeFormat(undefined, { dateStyle: "full" });

export const day = (text) => text.slice(0, 10);
export function dayName(key) {
  const today = new Date(now()).toISOString().slice(0, 10);
  const yesterday = new Date(now() - 864e5).toISOString().slice(0, 10);
  if (key === today) return "Today";
  if (!/^\d/.test(key)) return key;
  return key === yesterday ? "Yesterday" : date.format(new Date(`${key}T12:00:00Z`));
}
