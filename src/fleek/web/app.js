// Starts the page: who calls, what the address says, what happens.
import { h, icon, iconButton, swap } from "./lib/dom.js";
import { api, key, onUnauthorized } from "./lib/api.js";
import { setServerTime } from "./lib/format.js";
import { shortcuts } from "./lib/keys.js";
import { address, go, route } from "./lib/router.js";
import { drop, put } from "./lib/store.js";
import { ask, startAsk, submit } from "./view/ask.js";
import { liveList, loadLive } from "./view/live.js";
import { inWords, state } from "./view/state.js";
import { tellProblem } from "./view/toast.js";

const main = document.getElementById("main"), lost = document.getElementById("lost"), stateLine = document.getElementById("state");
const TITLES = { create: "Create", gallery: "Gallery", queue: "Queue", models: "Models", system: "System", access: "Keys and webhooks", jobs: "Job" };
let connection = { state: "new", retryAt: 0 }; // of the stream of events
let me = null, current = null, stop = null, lightbox = null, view = null, under = null;
const scrolls = new Map();

const home = h("div", { class: "results" });
const top3 = liveList({ most: 3 });

// The wall is loaded beside what comes first: the form.
let wall = null, asked = null;
const showWall = (query) => { asked = query; wall?.show(query); };
import("./view/gallery.js").then((loaded) => {
  wall = loaded;
  if (!home.isConnected) return;
  home.append(wall.gallery);
  showWall(asked);
}, tellProblem);

// What is not needed at first is loaded when it is.
const PAGES = {
  queue: async () => (await import("./view/queue.js")).queuePage(), system: async () => (await import("./view/system.js")).systemPage(me),
  models: async () => ({ el: (await import("./view/models.js")).modelsPage() }), access: async () => ({ el: (await import("./view/access.js")).accessPage(me) }),
  jobs: async (at) => {
    view = (await import("./view/job.js")).jobView(at.id, { output: Number(at.query.get("output") ?? 0) });
    return { ...view, el: h("div", { class: "job-page" }, view.el) };
  },
};

async function drawPage(at) {
  scrolls.set(current, scrollY);
  stop?.();
  stop = null;
  view = null;
  main.classList.toggle("two-columns", at.name === "create");
  const other = PAGES[at.name];
  if (at.name === "create") {
    home.className = "results";
    swap(main, ask, swap(home, top3.el, wall?.gallery));
  } else if (at.name === "gallery") {
    home.className = "results only";
    swap(main, swap(home, wall?.gallery));
  } else if (!other) {
    go("#/");
    return;
  }
  current = at.name;
  if (other) {
    swap(main);
    const page = await other(at);
    if (current !== at.name || route().id !== at.id) { page.stop?.(); return; }
    stop = page.stop;
    swap(main, page.el);
  } else wall?.redraw();
  scrollTo({ top: scrolls.get(current) ?? 0, behavior: "instant" });
}

async function openLightbox(id) {
  lightbox ??= await import("./view/lightbox.js");
  if (route().id === id) lightbox.open(id, (...said) => wall?.neighbour(...said) ?? null);
}
function closeLightbox() {
  const id = lightbox?.close();
  if (id) wall?.focusTile(id);
}

// What an address can fill the form with; see `view/refill.js`.
const FILLS = ["again", "model", "seed"];
let fills = 0;
async function fillForm(query) {
  const name = FILLS.find((one) => query.get(one));
  if (!name) return;
  history.replaceState(history.state, "", "#/");
  const mine = ++fills;
  try {
    const { refill } = await import("./view/refill.js");
    if (mine === fills) await refill(name, query.get(name)); // the latest address counts
  } catch (error) { tellProblem(error); }
}

function navigate(event) {
  const at = route();
  if (event?.isTrusted) for (const open of document.querySelectorAll("dialog.sheet[open]")) open.close();
  if (at.name === "jobs" && (under || lightbox?.opened())) openLightbox(at.id);
  else {
    closeLightbox();
    if (at.name !== current || at.name === "jobs") drawPage(at);
    under = at.name === "create" || at.name === "gallery" ? at.name : null;
    if (under) showWall(at.name === "create" && FILLS.some((name) => at.query.get(name)) ? new URLSearchParams() : at.query);
    if (at.name === "create") fillForm(at.query);
  }
  document.title = at.name === "create" ? "Fleek" : `${TITLES[at.name] ?? "Fleek"} · Fleek`;
  for (const tab of document.querySelectorAll("[data-tab]")) {
    if (tab.dataset.tab === (at.name === "jobs" ? current : at.name)) tab.setAttribute("aria-current", "page");
    else tab.removeAttribute("aria-current");
  }
}

const THEMES = ["system", "light", "dark"], ICONS = { system: "mono", light: "sun", dark: "spark" };
const theme = iconButton("mono", "Theme", () => setTheme(THEMES[(THEMES.indexOf(localStorage.getItem("fleek.theme") ?? "system") + 1) % 3]));
function setTheme(name) {
  if (name === "system") localStorage.removeItem("fleek.theme");
  else localStorage.setItem("fleek.theme", name);
  if (name === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  swap(theme, icon(ICONS[name]));
  theme.setAttribute("aria-label", `Theme: ${name}`);
  theme.title = `Theme: ${name}`;
}
const forget = iconButton("key", "Forget key", () => { key.forget(); location.reload(); });
const showKey = () => { forget.hidden = !key.get(); };
setTheme(localStorage.getItem("fleek.theme") ?? "system");
document.getElementById("buttons").append(forget, theme);
addEventListener("fleek:key", showKey);
showKey();

async function drawState() {
  const found = await state();
  stateLine.dataset.state = found.status;
  stateLine.lastElementChild.textContent = inWords(found.status);
}

function drawLost() {
  const down = connection.state === "lost" || !navigator.onLine;
  lost.hidden = !down;
  if (down) lost.textContent = navigator.onLine ? `Connection lost. Trying again in ${Math.max(0, Math.ceil((connection.retryAt - Date.now()) / 1000))} s` : "You are offline. What you type is kept.";
}

const showShortcuts = async () => (await import("./view/shortcuts.js")).showShortcuts();

let seen = false;
function happened(type, data) {
  if (type === "hello") {
    setServerTime(data.server_time);
    loadLive().catch(() => {});
    if (seen) wall?.reload();
    seen = true;
    drawState();
  } else if (type === "reset") wall?.reload();
  else if (type === "connection") { connection = data; drawLost(); }
  else if (type === "job.removed") drop(data.id);
  else if (type.startsWith("job.")) put(data, "event");
}
setInterval(drawLost, 1000);
addEventListener("offline", drawLost);
addEventListener("online", drawLost);
setInterval(() => { if (!document.hidden) drawState(); }, 15_000);
setInterval(() => { if (!document.hidden && connection.state !== "open") loadLive().catch(() => {}); }, 5000);

shortcuts({
  send: () => { if (!ask.isConnected || lightbox?.opened()) return false; submit(); return true; },
  act: (name) => {
    if (document.querySelector("dialog:not(.lightbox)")) return false;
    const over = lightbox?.opened(), shown = over ?? view;
    if (shown && name !== "?" && shown.press(name)) return true;
    if (over) return name === "?" ? (showShortcuts(), true) : false;
    const pages = ["#/", "#/gallery", "#/queue", "#/models", "#/system"];
    if (pages[name - 1]) go(pages[name - 1]);
    else if (name === "?") showShortcuts();
    else if (name === "t") theme.click();
    else if (name === "n") {
      if (!ask.isConnected) go("#/");
      setTimeout(() => document.getElementById("prompt")?.focus(), ask.isConnected ? 0 : 50);
    } else if (name === "/") {
      if (wall?.search.isConnected) wall.search.focus();
      else { go("#/gallery"); setTimeout(() => wall?.search.focus(), 50); }
    } else return false;
    return true;
  },
});

onUnauthorized(async (reason) => (await import("./view/login.js")).askForKey(reason));
document.getElementById("skip").addEventListener("click", (event) => { event.preventDefault(); main.focus(); });
addEventListener("hashchange", navigate);
history.scrollRestoration = "manual";
drawState();
navigate();
startAsk();
api("me").then((found) => {
  me = found;
  if (["system", "access"].includes(current)) { current = null; navigate(); }
  if (me.features.events) import("./lib/events.js").then(({ follow }) => follow(happened)).catch(tellProblem);
  else setInterval(() => loadLive().catch(() => {}), 2000);
}, tellProblem);
loadLive().catch(() => {});
