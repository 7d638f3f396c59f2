// The wall: all jobs of a filter behind one scrollbar; only what is near the view is in the document.
import { h, later, patch, swap } from "../lib/dom.js";
import { api, base } from "../lib/api.js";
import { day, dayName } from "../lib/days.js";
import { count } from "../lib/format.js";
import { justify, rowOf, within } from "../lib/layout.js";
import { jobs, put, subscribe } from "../lib/store.js";
import { anywhere, asked, belongs, filterBar, filtersOf } from "./filters.js";
import { look, makeTile, ratio } from "./tile.js";
import { trouble } from "./toast.js";

const PAGE = 100, NEAR = 500, MOST_TILES = 140, GAP = 8, HEADING = 24;
const bar = filterBar();
const sub = h("span.sub.num");
const wall = h("div.wall", { role: "list", "aria-label": "Jobs" });
const days = h("div", { "aria-hidden": "true" });
const notes = h("div.stack");
const pill = h("button.pill", { hidden: true, onclick: () => { showFresh(); scrollTo({ top: 0 }); } });
export const gallery = h("section.gallery", { "aria-label": "Gallery" }, h("div.head", h("h2", "Gallery"), sub, h("span.sp"), bar.els), notes, h("div.wall", days, wall), pill);
const frame = wall.parentElement;

let filters = {}, items = [], kept = new Map(), starts = [], laid = { rows: [], titles: [], height: 0 }, fresh = new Map();
let cursor = null, started = 0, loading = false, wide = 0, capped = false, shownKey = null, meanwhile = null;

const job = (index) => jobs.get(items[index]) ?? kept.get(items[index]);

async function page(offset) {
  const query = asked(filters), whole = anywhere(query);
  query.set("limit", PAGE);
  if (offset === 0) query.set("count", "true");
  if (whole) query.set("offset", Math.min(offset + fresh.size, 10_000));
  else if (cursor?.next) return read(cursor.next);
  return read(`jobs?${query}`);
}
async function read(path) {
  const answer = await api(path, { whole: true }), link = /<[^>]*\/api\/v1\/([^>]+)>; rel="next"/.exec(answer.headers.get("link") ?? "");
  return { found: await answer.json(), next: link?.[1] ?? null, counted: Number(answer.headers.get("x-total-count") ?? 0) };
}

export function show(query, force = false) {
  const next = filtersOf(query), same = JSON.stringify(next) === shownKey;
  bar.show(next);
  if (same && !force) return draw();
  filters = next;
  shownKey = JSON.stringify(next);
  return load();
}

async function load() {
  const mine = ++started;
  meanwhile = new Set();
  fresh = new Map();
  cursor = null;
  pill.hidden = true;
  const waiting = setTimeout(() => { if (mine === started && !items.length) swap(notes, h("div.skeleton", { role: "status", "aria-label": "Loading" })); }, 150);
  try {
    const query = asked(filters);
    const [counted, first] = await Promise.all([api(`jobs/days?${query}`), page(0)]);
    if (mine !== started) return;
    const known = counted.reduce((sum, one) => sum + one.jobs, 0), total = Math.max(known, first.counted, first.found.length);
    capped = total >= 10_000;
    items = new Array(total).fill(null);
    kept = new Map();
    let at = 0;
    starts = counted.map((one) => { const start = at; at += one.jobs; return { name: one.day, start }; });
    if (total > known) starts.push({ name: "Earlier", start: known }); // days are counted among the newest jobs only
    cursor = { next: first.next, at: first.found.length };
    accept(0, first.found);
    for (const id of meanwhile) if (!kept.has(id) && jobs.has(id) && belongs(jobs.get(id), filters)) insert(jobs.get(id));
    meanwhile = null;
    const none = items.length === 0 && (await import("./empty.js")).empty(filters);
    if (mine !== started) return;
    swap(notes, items.length === 0 && none); // one may have arrived
    lay();
  } catch (error) {
    if (mine === started) { swap(notes, trouble(error, load)); items = []; lay(); }
  } finally {
    clearTimeout(waiting);
    if (mine === started) meanwhile = null;
  }
}

function accept(at, found) {
  for (const one of found) {
    if (at >= items.length) items.push(null);
    items[at] = one.id;
    kept.set(one.id, put(one));
    at += 1;
  }
}

// Lays all tiles out again; what is at the top of the view stays there.
function lay() {
  wide = Math.round(frame.getBoundingClientRect().width);
  if (!wide) return;
  const held = anchor(), atEnd = innerHeight + scrollY >= document.documentElement.scrollHeight - 4 && scrollY > 0;
  const phone = innerWidth <= 900;
  laid = justify({ total: items.length, ratio: (index) => ratio(job(index)), days: starts, width: wide, height: phone ? 106 : 168, gap: phone ? 6 : GAP, heading: HEADING });
  frame.style.height = `${laid.height}px`;
  sub.textContent = items.length ? count(items.length) + (capped ? "+" : "") : "";
  if (atEnd) scrollTo({ top: document.documentElement.scrollHeight, behavior: "instant" });
  else if (held) {
    const row = laid.rows[rowOf(laid.rows, held.index)];
    const moved = row ? row.y - held.y : 0;
    if (Math.abs(moved) > 1) scrollBy({ top: moved, behavior: "instant" });
  }
  draw();
}

function anchor() {
  const top = -frame.getBoundingClientRect().top;
  if (top < 0) return null;
  const row = within(laid.rows, top, top + innerHeight)[0];
  return row ? { index: row.start, y: row.y } : null;
}

function draw() {
  if (!frame.isConnected) return;
  const around = frame.getBoundingClientRect(), top = -around.top;
  if (around.width === 0) return;
  if (Math.round(around.width) !== wide) return lay();
  let rows = within(laid.rows, top - NEAR, top + innerHeight + NEAR);
  while (rows.length > 1 && rows.at(-1).stop - rows[0].start > MOST_TILES) rows = rows[0].y + rows[0].h < top ? rows.slice(1) : rows.slice(0, -1);
  const seen = new Set(), tiles = [];
  for (const row of rows) {
    let x = 0;
    for (let index = row.start; index < row.stop; index += 1) {
      const one = job(index), width = ratio(one) * row.h;
      if (!one || !seen.has(one.id)) tiles.push({ job: one, index, x, y: row.y, w: width, h: row.h });
      seen.add(one?.id);
      x += width + (innerWidth <= 900 ? 6 : GAP);
    }
  }
  patch(wall, tiles, (tile) => (tile.job ? look(tile.job) : `empty ${tile.index}`), make, place);
  patch(days, laid.titles.filter((title) => title.y > top - NEAR - 200 && title.y < top + innerHeight + NEAR), (title) => title.name, (title) => h("h3.day", dayName(title.name)), (el, title) => { el.style.top = `${title.y}px`; });
  const missing = tiles.find((tile) => !tile.job);
  if (missing) ensure(missing.index);
}

const chosen = new Set();
let selecting = null; // loaded with the first job that is selected
function between(one, other) {
  const [from, to] = [items.indexOf(one), items.indexOf(other)].sort((a, b) => a - b);
  return from < 0 ? [other] : items.slice(from, to + 1).filter(Boolean);
}
async function select(...said) {
  selecting ??= import("./selection.js").then(({ selection }) => selection(gallery, chosen, between));
  (await selecting)(...said);
}
const make = (tile) => (tile.job ? makeTile(tile.job, { chosen, select }) : h("div.tile", { role: "listitem", "aria-label": "Loading" }));
function place(el, tile) {
  for (const side of ["x", "y", "w", "h"]) el.style.setProperty(`--${side}`, `${tile[side]}px`);
  el.dataset.index = tile.index;
}

async function ensure(index) {
  if (loading) return;
  loading = true;
  const mine = started;
  try {
    const whole = anywhere(asked(filters));
    const from = whole ? Math.max(0, index - 10) : cursor.at;
    const { found, next } = await page(from);
    if (mine !== started) return;
    if (!whole) cursor = { next, at: from + found.length };
    accept(from, found);
    if (!found.length || (!whole && !next)) items.length = Math.max(from + found.length, Math.min(items.length, index));
    lay();
  } catch (error) {
    if (mine === started) swap(notes, trouble(error, () => { swap(notes); draw(); }));
  } finally { loading = false; }
  if (mine === started && !notes.children.length) draw();
}

// A job that has come to the list: shown at once at the top of the page, announced further down.
function arrived(one) {
  if (scrollY > 300 && frame.isConnected) {
    fresh.set(one.id, one);
    pill.hidden = false;
    pill.textContent = `${fresh.size} new`;
  } else { insert(one); lay(); }
}
function insert(one) {
  let at = 0;
  while (at < items.length && job(at)?.created_at > one.created_at) at += 1;
  if (at > 0 && at < items.length && !job(at)) return; // it comes with its page
  items.splice(at, 0, one.id);
  kept.set(one.id, one);
  const key = day(one.created_at);
  let spot = starts.findIndex((start) => start.name === key);
  if (spot < 0) {
    const before = starts.findIndex((start) => start.name < key);
    spot = before < 0 ? starts.length : before;
    starts.splice(spot, 0, { name: key, start: at });
  }
  for (const start of starts.slice(spot + 1)) start.start += 1;
  swap(notes);
}
function showFresh() {
  for (const one of fresh.values()) insert(one);
  fresh = new Map();
  pill.hidden = true;
  lay();
}

subscribe((ids) => {
  let redraw = false;
  for (const id of ids) {
    const one = jobs.get(id);
    meanwhile?.add(id);
    const held = kept.has(id);
    if (one && held) { kept.set(id, one); redraw = true; }
    else if (one && shownKey !== null && !fresh.has(id) && belongs(one, filters)) arrived(one);
  }
  if (redraw) draw();
});

// The job before or after another one in the list.
export const neighbour = (id, step) => (items.includes(id) ? items[items.indexOf(id) + step] ?? null : null);
export const focusTile = (id) => {
  const find = () => wall.querySelector(`[data-job="${id}"] > a`);
  if (!find()) {
    const row = laid.rows[rowOf(laid.rows, items.indexOf(id))];
    if (row) { scrollTo({ top: frame.offsetTop + row.y - 120, behavior: "instant" }); draw(); }
  }
  find()?.focus({ preventScroll: true });
};

wall.addEventListener("keydown", (event) => {
  const tile = event.target.closest(".tile"), index = Number(tile?.dataset.index);
  if (!tile || event.target.closest("button, input") || event.altKey || event.ctrlKey || event.metaKey) return;
  const at = rowOf(laid.rows, index), row = laid.rows[at];
  const across = (next) => next && next.start + Math.min(next.stop - next.start - 1, Math.round((index - row.start) * (next.stop - next.start) / (row.stop - row.start)));
  const to = { ArrowLeft: index - 1, ArrowRight: index + 1, ArrowUp: across(laid.rows[at - 1]), ArrowDown: across(laid.rows[at + 1]) }[event.key];
  if (to === undefined || !items[to]) return;
  event.preventDefault();
  focusTile(items[to]);
  document.activeElement.scrollIntoView({ block: "nearest" });
});

export const reload = () => (shownKey === null ? null : load());
export const redraw = () => draw();
let framed = 0;
addEventListener("scroll", () => {
  framed ||= requestAnimationFrame(() => { framed = 0; draw(); });
  if (fresh.size && scrollY < 200) showFresh();
}, { passive: true });
new ResizeObserver(later(() => lay(), 60)).observe(frame);
