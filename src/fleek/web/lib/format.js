const number = new Intl.NumberFormat();
const moment = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const shortDay = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "long" });
let ahead = null; // of the server's clock, in milliseconds

// An answer says the time to a second, and may come late: the clock is never behind what any of them says.
export const setServerTime = (text) => {
  const found = Date.parse(text) - Date.now(), near = Math.abs(found) < 1500 ? 0 : found;
  if (near > (ahead ?? -Infinity)) ahead = near;
};
export const now = () => Date.now() + (ahead ?? 0);
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
