// One control for each field of a model. `change(value)` is called with undefined for the default.
import { h, icon, iconButton, swap } from "../lib/dom.js";
import { bare } from "../lib/format.js";
import { shown, sides, sizes } from "../lib/schema.js";

const idOf = (field) => `f-${field.name}`;
const text = (value) => (value === undefined || value === null ? "" : bare(value));
const WORDS = { png: "PNG", jpg: "JPG", jpeg: "JPEG", webp: "WebP", gif: "GIF", mp4: "MP4", mp3: "MP3", wav: "WAV" };

function radios(field, value, change, draw, kind) {
  const all = field.options;
  const first = kind === "shapes" ? shown(all) : all;
  const box = h("div", { class: kind, role: "radiogroup", "aria-labelledby": `l-${field.name}` });
  const add = (option) => {
    const chosen = value === undefined ? option === field.default : option === value;
    return h("label", { class: option === field.default ? "default" : null },
      h("input", { type: "radio", name: idOf(field), value: text(option), checked: chosen,
        onchange: () => change(option === field.default ? undefined : option) }),
      draw(option));
  };
  box.append(...first.map(add));
  const rest = all.filter((one) => !first.includes(one));
  if (rest.length) {
    const more = h("button", { type: "button", onclick: () => { more.remove(); box.append(...rest.map(add)); box.querySelectorAll("input")[first.length].focus(); } },
      h("span", { class: "room" }, icon("down")), "More");
    if (value !== undefined && rest.includes(value)) box.append(...rest.map(add));
    else box.append(more);
  }
  return box;
}

function drawn(option) {
  const two = sides(option);
  if (!two) return [h("span", { class: "room" }, icon("image")), text(option)];
  const scale = 25 / Math.max(two[0] * 1, two[1] * 1);
  return [h("span", { class: "room" }, h("i", { vars: { w: `${Math.max(two[0] * scale, 5)}px`, h: `${Math.max(two[1] * scale, 5)}px` } })), text(option)];
}

// A width and a height as shapes: `change([…])` in the order of the two fields, `more()` for the numbers.
export function shapes(pair, now, change, more) {
  const pixels = h("span", { class: "num" });
  const tell = (two) => { pixels.textContent = two.every((one) => one !== null) ? (pair[0].name === "width" ? two : [...two].reverse()).join(" × ") : ""; };
  const tile = (one) => h("label", {}, h("input", { type: "radio", name: "f-shape", value: one.name, checked: one.pixels.join() === now.join(), onchange: () => { tell(one.pixels); change(one.pixels); } }), drawn(one.name));
  tell(now);
  return h("div", {}, h("div", { class: "label" }, h("span", { id: "l-shape", class: "plain-label" }, "Shape"), pixels),
    h("div", { class: "shapes", role: "radiogroup", "aria-labelledby": "l-shape" }, sizes(pair).map(tile), h("button", { type: "button", onclick: more }, h("span", { class: "room" }, icon("down")), "More")));
}

const boxed = (control, ...more) => h("div", { class: "field-box" }, control, more);
const parsed = (field, said) => {
  if (said === "") return undefined;
  const number = Number(said);
  return Number.isNaN(number) ? said : number;
};

function number(field, value, change) {
  const known = { id: idOf(field), min: field.min, max: field.max, step: field.step, placeholder: text(field.default) };
  const field_ = h("input", { type: "number", class: "num", ...known, value: text(value), oninput: () => {
    change(parsed(field, field_.value));
    if (slider) slider.value = field_.value || text(field.default) || field.min;
  } });
  let slider = null;
  if (field.min !== null && field.max !== null && field.max - field.min <= 10_000) {
    slider = h("input", { type: "range", min: field.min, max: field.max, step: field.step === "any" ? (field.max - field.min) / 100 : field.step,
      "aria-label": field.label, value: text(value ?? field.default ?? field.min), oninput: () => { field_.value = slider.value; change(Number(slider.value)); } });
  }
  return h("div", { class: "number" }, slider, boxed(field_));
}

function seed(field, value, change) {
  const most = Math.min(field.max ?? 2 ** 31 - 1, 2 ** 32 - 1);
  const input = h("input", { type: "number", class: "num", id: idOf(field), placeholder: "any", inputmode: "numeric", step: 1, min: field.min, max: field.max,
    value: text(value), oninput: () => change(parsed(field, input.value)) });
  return boxed(input, iconButton("dice", "Throw the dice: a seed by chance, kept", () => {
    const low = Math.max(field.min ?? 0, 0), drawnSeed = low + Math.floor(Math.random() * (most - low));
    input.value = drawnSeed;
    change(drawnSeed);
  }));
}

function select(field, value, change) {
  const none = h("option", { value: "" }, field.default === null ? "—" : `${text(field.default)} (default)`);
  const control = h("select", { id: idOf(field), onchange: () => change(control.value === "" ? undefined : field.options[control.value]) },
    none, field.options.map((one, at) => h("option", { value: at }, text(one))));
  control.value = value === undefined ? "" : field.options.indexOf(value);
  return boxed(control);
}

function json(field, value, change, wrong) {
  const area = h("textarea", { id: idOf(field), class: "mono", spellcheck: "false", placeholder: field.default === null ? field.type === "array" ? "[ … ]" : "{ … }" : text(field.default),
    value: value === undefined ? "" : JSON.stringify(value, null, 2), oninput: () => {
      try {
        change(area.value.trim() === "" ? undefined : JSON.parse(area.value));
        wrong("");
      } catch (error) { wrong(`This is not JSON yet: ${error.message}`); }
    } });
  return boxed(area);
}

function line(field, value, change) {
  const kind = field.control === "line" ? "input" : "textarea";
  const input = h(kind, { id: idOf(field), placeholder: text(field.default), maxlength: field.maxLength, value: text(value),
    oninput: () => change(input.value === "" ? undefined : input.value) });
  return boxed(input);
}

function toggle(field, value, change) {
  const input = h("input", { type: "checkbox", role: "switch", id: idOf(field), checked: value ?? field.default ?? false,
    onchange: () => change(input.checked === field.default ? undefined : input.checked) });
  return h("label", { class: "switch" }, input, field.label);
}

// Most models take no files: their control is loaded with the first of them.
function files(...said) {
  const place = h("div", {});
  place.ready = import("./drop.js").then(({ fileField }) => place.append(fileField(...said)));
  return place;
}

const CONTROLS = {
  shape: (field, value, change) => radios(field, value, change, drawn, "shapes"),
  segments: (field, value, change) => radios(field, value, change, (one) => WORDS[one] ?? text(one), "seg"),
  number, seed, select, json, line, text: line, switch: toggle, file: files, files, mask: files,
};

// Returns {el, wrong(message), focus(), draw(value), take(files)}. `context(name)` is the value of another field.
export function makeField(field, value, changed, context) {
  const help = h("p", { class: field.group === "more" || field.group === "picture" ? "help" : "vh", id: `h-${field.name}` }, field.help);
  const error = h("p", { class: "wrong", id: `e-${field.name}`, hidden: true });
  const isGroup = ["shape", "segments", "file", "files", "mask"].includes(field.control);
  const reset = h("button", { type: "button", class: "reset", hidden: value === undefined, "aria-label": `Reset ${field.label}`, onclick: () => {
    changed(undefined);
    draw(undefined);
    mark(undefined);
  } }, "Reset");
  const name = isGroup ? h("span", { id: `l-${field.name}`, class: "plain-label" }, field.label) : h("label", { for: idOf(field) }, field.label);
  const label = h("div", { class: "label" }, field.control === "switch" ? h("span") : [name, field.required && h("span", {}, "required")], reset);
  const place = h("div", {});
  const el = h("div", { "data-field": field.name, title: field.group === "more" ? null : field.help, class: value === undefined ? null : "changed" }, label, place, error, field.help && help);
  const mark = (now) => { el.classList.toggle("changed", now !== undefined); reset.hidden = now === undefined; };
  const wrong = (message) => {
    error.textContent = message;
    error.hidden = !message;
    for (const control of place.querySelectorAll("input, select, textarea, button")) {
      const said = [message && error.id, field.help && help.id].filter(Boolean).join(" ");
      if (said) control.setAttribute("aria-describedby", said);
      else control.removeAttribute("aria-describedby");
      if (message) control.setAttribute("aria-invalid", "true");
      else control.removeAttribute("aria-invalid");
    }
  };
  function draw(now) {
    const control = CONTROLS[field.control](field, now, (next) => { mark(next); changed(next); if (field.control !== "json") wrong(""); }, wrong, context);
    swap(place, control);
    wrong("");
    control.ready?.then(() => wrong(error.textContent));
  }
  draw(value);
  return { el, wrong, focus: () => (place.querySelector(`[id="${idOf(field)}"]:not([type=file])`) ?? place.querySelector("input:not([type=file]), select, textarea, button"))?.focus(), draw: (now) => { draw(now); mark(now); },
    take: async (files) => { await place.firstChild.ready; place.querySelector("[data-drop]").take(files); } };
}
