// The form of a new job, made from the model's schema.
import { dialog, h, icon, iconButton, later, once, swap } from "../lib/dom.js";
import { Offline, post } from "../lib/api.js";
import { loadModels } from "../lib/catalogue.js";
import { bare, modelName, things } from "../lib/format.js";
import { kept } from "../lib/kept.js";
import { fields as fieldsOf } from "../lib/schema.js";
import { put } from "../lib/store.js";
import { codeBox } from "./codebox.js";
import { makeField, shapes } from "./fields.js";
import { pictures } from "./preview.js";
import { trouble } from "./toast.js";

const DRAFT = "fleek.draft";
const draft = { model: null, prompt: "", values: {}, job: {}, language: "curl", keepSeed: false, ...kept(DRAFT, {}) };
let model = null, fields = null, made = new Map();

const keep = later(() => { try { sessionStorage.setItem(DRAFT, JSON.stringify(draft)); } catch { /* full */ } }, 150);
const values = () => (draft.values[model?.name ?? ""] ??= {});

const prompt = h("textarea", { id: "prompt", placeholder: "What do you want to see?", "aria-describedby": "e-prompt", oninput: () => { draft.prompt = prompt.value; changed(); sayWrong("prompt", ""); } });
const promptWrong = h("p", { class: "wrong", id: "e-prompt", hidden: true });
const modelButton = h("button", { type: "button", class: "model", "aria-haspopup": "dialog", onclick: () => choose() });
const standIn = h("p", { class: "note small", hidden: true }, "These are stand-in pictures. Set REPLICATE_API_TOKEN for real ones.");
const pictureBox = h("div", { class: "stack", hidden: true });
const settings = h("div", { class: "full" }), shapeBox = h("div", {});
const quick = h("div", { class: "quick", role: "group", "aria-label": "Settings" });
const submitWord = h("span", {}, "Generate");
const shownCode = codeBox((language) => { draft.language = language; changed(); });
const problemBox = h("div", { hidden: true });
const addPicture = h("button", { type: "button", class: "ref", hidden: true, onclick: () => togglePicture() }, icon("image"), "Add a picture");

export const ask = h("form", { class: "ask card", "aria-label": "New job", novalidate: true, onsubmit: (event) => { event.preventDefault(); submit(); } },
  h("div", { class: "scroll", tabindex: "-1" }, modelButton, standIn,
    h("div", {}, h("label", { class: "vh", for: "prompt" }, "Prompt"),
      h("div", { class: "write" }, prompt, h("div", { class: "foot" }, addPicture, h("span", { class: "sp" }),
        iconButton("text", "One job per line", () => severalLines()), iconButton("clock", "Prompts before", async () => (await import("./prompts.js")).pickPrompt((text) => fill({ prompt: text }))))), promptWrong),
    pictureBox, quick, settings),
  h("div", { class: "go" }, problemBox, h("button", { class: "primary" }, submitWord, h("kbd", {}, "Ctrl ↵")), shownCode.el));

ask.addEventListener("paste", (event) => { if (give(pictures(event.clipboardData))) event.preventDefault(); });
ask.addEventListener("dragover", (event) => event.preventDefault());
ask.addEventListener("drop", (event) => { event.preventDefault(); give(pictures(event.dataTransfer)); });

const fileFields = () => (fields ?? []).filter((one) => one.group === "picture");
function togglePicture(open = pictureBox.hidden) { pictureBox.hidden = !open; }
function give(files) {
  const target = fileFields().find((one) => one.control !== "mask");
  if (!files.length || !target) return false;
  togglePicture(true);
  made.get(target.name).take(files);
  return true;
}

const drawCode = () => shownCode.draw(draft.language, request(), needsPrompt() ? "A cat riding a bicycle" : "");
const needsPrompt = () => !(model?.parameters && "x-prompt" in model.parameters);

// The body of the request that the form stands for: defaults are left out.
export function request() {
  const parameters = Object.fromEntries(Object.entries(values()).filter(([, value]) => value !== undefined));
  const body = { prompt: draft.prompt.trim() ? draft.prompt : "" };
  if (model) body.model_name = model.name;
  if (Object.keys(parameters).length) body.parameters = parameters;
  return { ...body, ...draft.job };
}

const outputs = () => {
  const field = fields?.find((one) => one.group === "count");
  return field ? Number(values()[field.name] ?? field.default ?? 1) : 1;
};

function changed() {
  submitWord.textContent = `Generate ${things(outputs(), model?.output)}`;
  drawCode();
  drawQuick();
  keep();
}

const setValue = (name, value) => (values()[name] = value); // what is undefined is not sent
const valueOf = (field) => values()[field.name] ?? field.default;
const sidesFields = () => (fields ?? []).filter((one) => one.group === "sides");

// Shapes for a model that takes a width and a height; the two numbers are behind "More".
function drawShapes(numbers) {
  const pair = sidesFields();
  shapeBox.hidden = pair.length !== 2; // an empty one would leave a gap
  swap(shapeBox, pair.length === 2 && shapes(pair, pair.map(valueOf), (chosen) => {
    pair.forEach((field, at) => made.get(field.name).draw(setValue(field.name, chosen[at] === field.default ? undefined : chosen[at])));
    changed();
  }, () => { numbers.hidden = !numbers.hidden; }));
}

function drawQuick() {
  const pair = sidesFields(), shown = pair.map(valueOf);
  const said = (fields ?? []).filter((one) => ["shape", "count", "format", "seed"].includes(one.group)).slice(0, 4).map((one) => {
    const value = valueOf(one);
    if (one.group === "count") return things(Number(value ?? 1), model.output);
    return one.group === "seed" ? (value === null ? "Any seed" : `Seed ${value}`) : bare(value ?? one.label);
  });
  swap(quick, [...(shown.some((one) => one !== null) ? [shown.join(" × ")] : []), ...said, "All settings"].map((word) => h("button", { type: "button", class: "chip", onclick: openSheet }, word)));
}

function openSheet() {
  const place = h("div", {});
  settings.replaceWith(place);
  dialog("Settings", [h("div", { class: "row" }, h("h2", { class: "sp" }, "Settings"), iconButton("x", "Close", (event) => event.currentTarget.closest("dialog").close())), settings],
    { onclose: () => place.replaceWith(settings) });
}

// A mask can be painted as soon as there is a picture.
const drawMasks = () => fileFields().filter((one) => one.control === "mask").forEach((one) => made.get(one.name)?.draw(values()[one.name]));

function drawFields() {
  made = new Map();
  const numbers = h("div", { class: "two", hidden: true });
  for (const one of fields ?? [{ name: "*", control: "json", group: "more", type: "object", label: "Parameters", default: null, options: [],
    help: model?.parameters ? "The description of this model cannot be shown as a form." : "What this model takes is not known yet." }]) {
    const change = one.name === "*" ? (value) => { draft.values[model.name] = value ?? {}; changed(); }
      : (value) => { if (value === undefined) delete values()[one.name]; else values()[one.name] = value; changed(); if (one.control === "file") drawMasks(); if (one.group === "sides") drawShapes(numbers); };
    const value = one.name === "*" ? (Object.keys(values()).length ? values() : undefined) : values()[one.name];
    made.set(one.name, makeField(one, value, change, (pattern) => Object.entries(values()).find(([name]) => pattern.test(name) && !/mask/.test(name))?.[1]));
  }
  const of = (...groups) => (fields ?? []).filter((one) => groups.includes(one.group)).map((one) => made.get(one.name).el);
  const required = (fields ?? []).filter((one) => one.group === "more" && one.required).map((one) => made.get(one.name).el);
  const rest = (fields ?? [{ name: "*", group: "more" }]).filter((one) => one.group === "more" && !one.required);
  const pair = [...of("count"), ...of("seed")];
  const more = h("div", { class: "full", hidden: Boolean(fields) }, rest.map((one) => made.get(one.name).el)), addJobFields = once(async () => more.append((await import("./schedule.js")).jobFields(draft.job, changed)));
  if (!fields) addJobFields();
  const opener = h("button", { type: "button", class: "more", "aria-expanded": String(!fields), onclick: () => {
    more.hidden = !more.hidden;
    addJobFields();
    opener.setAttribute("aria-expanded", String(!more.hidden));
  } }, icon("right"), "More settings", h("em", { class: "cut" }, rest.slice(0, 2).map((one) => one.label?.toLowerCase() ?? "").join(", "), rest.length > 2 ? `, ${rest.length - 2} others` : ""));
  numbers.append(...of("sides"));
  drawShapes(numbers);
  swap(settings, required, of("shape"), shapeBox, numbers, pair.length === 2 ? h("div", { class: "two" }, pair) : pair, of("format"), opener, more);
  swap(pictureBox, of("picture"));
  addPicture.hidden = !fileFields().length;
  togglePicture(fileFields().some((one) => one.required || values()[one.name] !== undefined));
}

export function useModel(next) {
  model = next;
  draft.model = next.name;
  fields = next.parameters ? fieldsOf(next.parameters) : null;
  swap(modelButton, h("span", { class: "art" }, icon({ audio: "sound", text: "text", video: "film", animation: "film" }[next.output] ?? "image")),
    h("span", {}, h("b", { class: "cut" }, modelName(next.name)), h("small", { class: "cut" }, `${next.name.split("/")[0]} · ${next.provider}`)), h("span", { class: "sp" }), icon("down"));
  modelButton.setAttribute("aria-label", `Model: ${next.name}. Choose another`);
  standIn.hidden = next.provider !== "placeholder";
  drawFields();
  changed();
}

const choose = async () => { const next = await (await import("./models.js")).pickModel(model); if (next) useModel(next); };

function sayWrong(name, message) {
  if (name === "prompt") {
    promptWrong.textContent = message;
    promptWrong.hidden = !message;
    prompt[message ? "setAttribute" : "removeAttribute"]("aria-invalid", "true");
    if (message) prompt.focus();
    return true;
  }
  const field = made.get(name) ?? made.get("*");
  if (!field) return false;
  field.wrong(message);
  if (message) {
    for (let up = field.el; up && up !== ask; up = up.parentElement) up.hidden = false;
    field.focus();
  }
  return true;
}

function show(error) {
  const unplaced = [...error.errors ?? []].reverse().filter((one) => {
    const [first, second] = one.pointer.split("/").slice(1).map((part) => part.replace(/~1/g, "/").replace(/~0/g, "~"));
    return !sayWrong(first === "parameters" ? second ?? "*" : first, one.detail);
  });
  const shown = (error.errors ?? []).length > unplaced.length;
  problemBox.hidden = shown;
  swap(problemBox, !shown && trouble(error, submit));
}

async function send(body) {
  return put(await post("generate", body, { "Idempotency-Key": crypto.randomUUID?.() ?? [...crypto.getRandomValues(new Uint8Array(16))].join("-") }), "event");
}

export async function submit() {
  problemBox.hidden = true;
  for (const field of made.values()) if (!field.el.querySelector("textarea.mono")) field.wrong("");
  if (!draft.prompt.trim() && needsPrompt()) return sayWrong("prompt", "Say what you want to see.");
  const body = request();
  if (body.prompt) import("./prompts.js").then(({ remember }) => remember(body.prompt), () => {}); // a list for the user alone
  try {
    await send(body);
  } catch (error) {
    if (error instanceof Offline) error.message = "The service cannot be reached. Nothing you typed is lost; try again when the connection is back.";
    show(error);
  }
}

const severalLines = async () => (await import("./lines.js")).sendLines(draft.prompt, (line) => send({ ...request(), prompt: line })).catch(show);

// Fills the form: a prompt, or all that a job was made of.
export function fill({ prompt: text, parameters }) {
  if (text !== undefined) draft.prompt = prompt.value = text;
  if (parameters) {
    draft.values[model.name] = { ...parameters };
    drawFields();
  }
  changed();
  prompt.focus();
}

// Returns false for a model without a seed.
export function setSeed(value) {
  const field = (fields ?? []).find((one) => one.group === "seed");
  if (!field) return false;
  made.get(field.name).draw(setValue(field.name, value));
  changed();
  return true;
}

export async function startAsk() {
  prompt.value = draft.prompt;
  drawCode();
  try {
    const all = await loadModels();
    if (model) return;
    const first = all.find((one) => one.name === draft.model) ?? all.find((one) => one.default) ?? all[0];
    if (first) useModel(first);
    else swap(modelButton, "No model is available");
  } catch (error) {
    problemBox.hidden = false;
    swap(problemBox, trouble(error, startAsk));
  }
}
