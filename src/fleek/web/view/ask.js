// The form of a new job, made from the model's schema.
import { dialog, h, icon, iconButton, later, swap } from "../lib/dom.js";
import { Offline, post } from "../lib/api.js";
import { loadModels } from "../lib/catalogue.js";
import { bare, kindIcon, modelName, things } from "../lib/format.js";
import { kept } from "../lib/kept.js";
import { fields as fieldsOf } from "../lib/schema.js";
import { put } from "../lib/store.js";
import { makeField, shapes } from "./fields.js";
import { trouble } from "./toast.js";

const DRAFT = "fleek.draft", WHOLE = "*"; // the name of the one field of a model whose schema cannot be shown as a form
const draft = { model: null, prompt: "", values: {}, job: {}, language: "curl", ...kept(DRAFT, {}) };
let model = null, fields = [], made = new Map(), shownCode = null;

const keep = later(() => { try { sessionStorage.setItem(DRAFT, JSON.stringify(draft)); } catch { /* full */ } }, 150);
const values = () => (draft.values[model?.name ?? ""] ??= {});

const prompt = h("textarea", { id: "prompt", placeholder: "What do you want to see?", "aria-describedby": "e-prompt", oninput: () => { draft.prompt = prompt.value; changed(); promptField.wrong(""); } });
const promptWrong = h("p.wrong", { id: "e-prompt" });
const promptField = { el: prompt, focus: () => prompt.focus(), wrong: (message) => { promptWrong.textContent = message; prompt.ariaInvalid = message ? "true" : null; } };
const modelButton = h("button.model", { "aria-haspopup": "dialog", onclick: async () => {
  const next = await (await import("./models.js")).pickModel(model);
  if (next) useModel(next);
} });
const standIn = h("p.note.small", { hidden: true }, "These are stand-in pictures. Set REPLICATE_API_TOKEN for real ones.");
const pictureBox = h("div.stack", { hidden: true });
const settings = h("div.full"), shapeBox = h("div");
const quick = h("div.quick", { role: "group", "aria-label": "Settings" });
const submitWord = h("span", "Generate");
const codeBox = h("div.code");
const problemBox = h("div");
const addPicture = h("button.ref", { hidden: true, onclick: () => { pictureBox.hidden = !pictureBox.hidden; } }, icon("image"), "Add a picture");

export const ask = h("form.ask.card", { "aria-label": "New job", novalidate: true, onsubmit: (event) => { event.preventDefault(); submit(); } },
  h("div.scroll", { tabindex: "-1" }, modelButton, standIn,
    h("div", h("label.vh", { for: "prompt" }, "Prompt"),
      h("div.write", prompt, h("div.foot", addPicture, h("span.sp"),
        iconButton("text", "One job per line", async () => (await import("./lines.js")).sendLines(draft.prompt, (line) => send({ ...request(), prompt: line })).catch(show)),
        iconButton("clock", "Prompts before", async () => (await import("./prompts.js")).pickPrompt((text) => fill({ prompt: text }))))), promptWrong),
    pictureBox, quick, settings),
  h("div.go", problemBox, h("button.primary", { type: "submit" }, submitWord, h("kbd", "Ctrl ↵")), codeBox));

ask.addEventListener("paste", (event) => { if (give([...event.clipboardData.files])) event.preventDefault(); });
ask.addEventListener("dragover", (event) => event.preventDefault());
ask.addEventListener("drop", (event) => { event.preventDefault(); give([...event.dataTransfer.files]); });
addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey) || !ask.isConnected || document.querySelector(".lightbox")) return;
  event.preventDefault();
  submit();
});
import("./codebox.js").then((loaded) => {
  shownCode = loaded.codeBox(codeBox, (language) => { draft.language = language; changed(); });
  drawCode();
});

const inGroup = (name) => fields.filter((one) => one.group === name);
function give(files) {
  const target = inGroup("picture").find((one) => one.control !== "mask");
  if (!files.length || !target) return false;
  pictureBox.hidden = false;
  made.get(target.name).take(files);
  return true;
}

const needsPrompt = () => !(model?.parameters && "x-prompt" in model.parameters);
const drawCode = () => shownCode?.(draft.language, request(), needsPrompt() ? "A cat riding a bicycle" : "");

// The body of the request that the form stands for: defaults are left out.
function request() {
  const parameters = Object.fromEntries(Object.entries(values()).filter(([, value]) => value !== undefined));
  const body = { prompt: draft.prompt.trim() ? draft.prompt : "" };
  if (model) body.model_name = model.name;
  if (Object.keys(parameters).length) body.parameters = parameters;
  return { ...body, ...draft.job };
}

function changed() {
  const [count] = inGroup("count");
  submitWord.textContent = `Generate ${things(Number(count ? valueOf(count) ?? 1 : 1), model?.output)}`;
  drawCode();
  drawQuick();
  keep();
}

const given = (field) => (field.name !== WHOLE ? values()[field.name] : Object.keys(values()).length ? values() : undefined);
const valueOf = (field) => given(field) ?? field.default;
function setValue(field, value) { // what is undefined is not sent
  if (field.name === WHOLE) draft.values[model.name] = value ?? {};
  else values()[field.name] = value;
}

// Shapes for a model that takes a width and a height; the two numbers are behind "More".
function drawShapes(numbers) {
  const pair = inGroup("sides");
  swap(shapeBox, pair.length === 2 && shapes(pair, pair.map(valueOf), (chosen) => {
    pair.forEach((field, at) => {
      setValue(field, chosen[at] === field.default ? undefined : chosen[at]);
      made.get(field.name).draw(given(field));
    });
    changed();
  }, () => { numbers.hidden = !numbers.hidden; }));
}

// On a phone: what is set, in a row of chips that open all settings.
function drawQuick() {
  const sides = inGroup("sides").map(valueOf);
  const said = fields.filter((one) => ["shape", "count", "format", "seed"].includes(one.group)).slice(0, 4).map((one) => {
    const value = valueOf(one);
    if (one.group === "count") return things(Number(value ?? 1), model.output);
    return one.group === "seed" ? (value === null ? "Any seed" : `Seed ${value}`) : bare(value ?? one.label);
  });
  swap(quick, [sides.some((one) => one !== null) && sides.join(" × "), ...said, "All settings"].filter(Boolean).map((word) => h("button.chip", { onclick: openSheet }, word)));
}

function openSheet() {
  const place = h("div");
  settings.replaceWith(place);
  dialog("Settings", settings, { onclose: () => place.replaceWith(settings) });
}

// A mask can be painted as soon as there is a picture.
const pictureToMask = () => Object.entries(values()).find(([name, value]) => value && /image|picture/.test(name) && !/mask/.test(name))?.[1];
const drawMasks = () => { for (const one of fields) if (one.control === "mask") made.get(one.name).draw(given(one)); };

// All other settings. Opened, they begin at the top of what scrolls: below its end, nothing would seem to happen.
function moreSettings(rest) {
  const whole = rest[0]?.name === WHOLE;
  const content = h("div.full", rest.map((one) => made.get(one.name).el));
  const more = h("details", { open: whole, ontoggle: () => {
    const around = more.closest(".scroll, .sheet");
    if (more.open && !whole) around.scrollTop += more.getBoundingClientRect().top - around.getBoundingClientRect().top - 12;
  } }, h("summary.more", icon("right"), "More settings", h("em.cut", rest.slice(0, 2).map((one) => one.label.toLowerCase()).join(", "), rest.length > 2 && `, ${rest.length - 2} others`)), content);
  more.addEventListener("toggle", async () => content.append((await import("./schedule.js")).jobFields(draft.job, changed)), { once: true });
  return more;
}

function drawFields() {
  const numbers = h("div.two", { hidden: true });
  made = new Map(fields.map((one) => [one.name, makeField(one, given(one), (value) => {
    setValue(one, value);
    changed();
    if (one.control === "file") drawMasks();
    if (one.group === "sides") drawShapes(numbers);
  }, pictureToMask)]));
  const of = (...groups) => groups.flatMap(inGroup).map((one) => made.get(one.name).el);
  const pair = of("count", "seed"), rest = inGroup("more").filter((one) => !one.required);
  swap(numbers, of("sides"));
  drawShapes(numbers);
  swap(settings, inGroup("more").filter((one) => one.required).map((one) => made.get(one.name).el), of("shape"), shapeBox, numbers, pair.length === 2 ? h("div.two", pair) : pair, of("format"), moreSettings(rest));
  swap(pictureBox, of("picture"));
  addPicture.hidden = !inGroup("picture").length;
  pictureBox.hidden = !inGroup("picture").some((one) => one.required || given(one) !== undefined);
}

export function useModel(next) {
  model = next;
  draft.model = next.name;
  fields = (next.parameters && fieldsOf(next.parameters)) ?? [{ name: WHOLE, control: "json", group: "more", type: "object", label: "Parameters", default: null,
    help: next.parameters ? "The description of this model cannot be shown as a form." : "What this model takes is not known yet." }];
  const owner = next.name.includes("/") && next.name.split("/")[0];
  swap(modelButton, h("span.art", icon(kindIcon(next.output))),
    h("span", h("b.cut", modelName(next.name)), h("small.cut", [owner, next.provider].filter(Boolean).join(" · "))), h("span.sp"), icon("down"));
  modelButton.ariaLabel = `Model: ${next.name}. Choose another`;
  standIn.hidden = next.provider !== "placeholder";
  drawFields();
  changed();
}

// Says at a field what is wrong, however deep it hides; false: there is no such field.
function sayWrong(name, message) {
  const field = name === "prompt" ? promptField : made.get(name) ?? made.get(WHOLE);
  if (!field) return false;
  field.wrong(message);
  for (let up = field.el; up && up !== ask; up = up.parentElement) {
    up.hidden = false;
    if (up.localName === "details") up.open = true;
  }
  field.focus();
  return true;
}

function show(error) {
  const errors = error.errors ?? [];
  const unplaced = errors.toReversed().filter((one) => {
    const [first, second] = one.pointer.split("/").slice(1).map((part) => part.replace(/~1/g, "/").replace(/~0/g, "~"));
    return !sayWrong(first === "parameters" ? second ?? WHOLE : first, one.detail);
  });
  swap(problemBox, errors.length === unplaced.length && trouble(error, submit));
}

async function send(body) {
  return put(await post("generate", body, { "Idempotency-Key": crypto.getRandomValues(new Uint8Array(16)).join("-") }), "event");
}

async function submit() {
  swap(problemBox);
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
  const [field] = inGroup("seed");
  if (!field) return false;
  setValue(field, value);
  made.get(field.name).draw(value);
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
    swap(problemBox, trouble(error, startAsk));
  }
}
