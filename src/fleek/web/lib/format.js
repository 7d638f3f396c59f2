const number = new Intl.NumberFormat();
const moment = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const date = new Intl.DateTimeFormat(undefined, { dateStyle: "full" });
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const shortDay = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "long" });
let ahead = 0; // of the server's clock, in milliseconds

export const setServerTime = (text) => { // exact to a second: a header has no more
  const time = Date.parse(text);
  if (time && Math.abs(time - now()) > 1500) ahead = time - Date.now();
};
export const now = () => Date.now() + ahead;
export const count = (value) => number.format(value);
export const when = (text) => (text ? moment.format(new Date(text)) : "");
export const some = (n, one, many = `${one}s`) => `${number.format(n)} ${n === 1 ? one : many}`;

export function seconds(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "";
  if (value < 10) return `${Math.max(value, 0).toFixed(1)} s`;
  if (value < 60) return `${Math.round(value)} s`;
  const whole = Math.floor(value), pad = (n) => String(n).padStart(2, "0");
  return whole < 3600 ? `${Math.floor(whole / 60)}:${pad(whole % 60)}`
    : `${Math.floor(whole / 3600)}:${pad(Math.floor(whole / 60) % 60)}:${pad(whole % 60)}`;
}

export const elapsed = (job) =>
  ((job.completed_at ? Date.parse(job.completed_at) : now()) - Date.parse(job.started_at ?? job.created_at)) / 1000;

export function bytes(size) {
  if (size === null || size === undefined) return "";
  const units = ["bytes", "KB", "MB", "GB", "TB"];
  let at = 0;
  while (size >= 1000 && at < 4) { size /= 1000; at += 1; }
  return `${at ? size.toFixed(size < 10 ? 1 : 0) : size} ${units[at]}`;
}

export const day = (text) => text.slice(0, 10);
export function dayName(key) {
  const today = new Date(now()).toISOString().slice(0, 10);
  const yesterday = new Date(now() - 864e5).toISOString().slice(0, 10);
  if (key === today) return "Today";
  if (!/^\d/.test(key)) return key;
  return key === yesterday ? "Yesterday" : date.format(new Date(`${key}T12:00:00Z`));
}

export function at(text) {
  const time = new Date(text);
  return Math.abs(time - now()) < 64e6 ? clock.format(time) : `${shortDay.format(time)} ${clock.format(time)}`;
}
export const dayOf = (text) => shortDay.format(new Date(text));

const WORDS = { image: "picture", animation: "animation", video: "video", audio: "recording", text: "text" };
export const things = (n, kind) => some(n, WORDS[kind] ?? "result");
export const kindIcon = (kind) => ({ video: "film", animation: "film", audio: "sound", text: "text" })[kind] ?? "image";
export const modelName = (name) => name.split("/").pop();
// What a job is called: models that enlarge a picture, for example, have no prompt.
export const titleOf = (job) => job.prompt || modelName(job.model_name);
const TRIES = ["", "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth"];
const NUMBERS = ["", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];
export const tryOf = (n, all) => `${TRIES[n] ?? `${n}.`} try of ${NUMBERS[all] ?? all}`;
export const bare = (value) => (typeof value === "string" ? value : JSON.stringify(value));
