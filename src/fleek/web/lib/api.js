// Requests to this service: the key, problems as errors, patience while it starts again.
import { setServerTime } from "./format.js";

export const base = new URL(".", document.baseURI).href.replace(/\/$/, "");
const KEY = "fleek.key";
let asked = null;

export const key = {
  get: () => sessionStorage.getItem(KEY),
  set: (value) => sessionStorage.setItem(KEY, value),
  forget: () => sessionStorage.removeItem(KEY),
};

export class Problem extends Error {
  constructor(status, body) {
    super(body.detail ?? `the server has answered ${status}`);
    Object.assign(this, { status, code: body.code ?? "", errors: body.errors ?? [], requestId: body.request_id ?? "" });
  }
}
export class Offline extends Error {}

// `ask` is called with a reason when a key is needed; it resolves once there is one.
export const onUnauthorized = (ask) => { asked = ask; };

const bearer = () => (key.get() ? { Authorization: `Bearer ${key.get()}` } : {});
let gate = null; // what all requests wait for: one of them finds out whether the key is valid, or asks for it

async function checked(reason) {
  for (let why = reason; ;) {
    if (why !== null) await asked?.(why);
    try {
      const answer = await fetch("api/v1/me", { headers: bearer(), cache: "no-store" });
      if (answer.status !== 401) return;
    } catch { return; }
    why = key.get() ? "This key was not accepted." : "";
  }
}

export async function raw(path, { method = "GET", body, json, headers = {}, signal } = {}) {
  const mine = gate ??= checked(null);
  await mine;
  const sent = { ...headers, ...bearer() };
  if (json !== undefined) sent["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, { method, headers: sent, body: json === undefined ? body : JSON.stringify(json), signal, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Offline("the service cannot be reached");
  }
  setServerTime(answer.headers.get("date"));
  if (answer.ok) return answer;
  const text = await answer.text();
  let said = {};
  try { said = JSON.parse(text); } catch { /* of a proxy */ }
  if (answer.status === 401 && asked) {
    if (gate === mine) gate = checked(key.get() ? "This key was not accepted." : "");
    return raw(path, { method, body, json, headers, signal });
  }
  throw new Problem(answer.status, said);
}

const pause = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

// An answer that was lost is asked for again: reads, changes to a value, what says that it is `repeatable`, other writes by
// their idempotency key.
export async function api(path, options = {}) {
  const repeatable = options.repeatable || !options.method || options.method === "PATCH" || options.headers?.["Idempotency-Key"];
  for (let tried = 0; ; tried += 1) {
    try {
      const answer = await raw(`api/v1/${path}`, options);
      return options.whole ? answer : answer.status === 204 ? null : await answer.json();
    } catch (error) {
      const passing = error instanceof Offline || error.status === 503 || error.status === 429;
      if (!passing || !repeatable || tried >= (options.tries ?? 3)) throw error;
      await pause(400 * 2 ** tried);
    }
  }
}

export const post = (path, json, headers) => api(path, { method: "POST", json, headers });

// Files have the page's own origin: a policy may then forbid all others, and signatures are kept.
export function mediaUrl(address, size) {
  const url = new URL(address, `${base}/`), query = url.searchParams;
  if (size) query.set("size", size);
  const said = query.toString();
  return `media/${encodeURIComponent(url.pathname.split("/").pop())}${said ? `?${said}` : ""}`;
}
export const thumbnail = (output, size) =>
  (output.thumbnails?.[size] ? mediaUrl(output.thumbnails[size]) : null);
