// One control for each field of a model. `change(value)` is called with undefined for the default.
import { h, icon, iconButton, swap } from "../lib/dom.js";
import { bare } from "../lib/format.js";
import { shown, sides, sizes } from "../lib/schema.js";

const idOf = (field) => `f-${field.name}`;
const text = (value) => (value === undefined || value === null ? "" : bare(value));
const WORDS = { png: "PNG", jpg: "JPG", jpeg: "JPEG", webp: "WebP", gif: "GIF", mp4: "MP4", mp3: "MP3", wav: "WAV" };

function radios(field, value, change, draw, kind) {
  const all = field.options, first = kind === "shapes" ? shown(all) : all, rest = all.filter((one) => !first.includes(one));
  const box = h("div", { class: kind, role: "radiogroup", "aria-labelledby": `l-${field.name}` });
  const add = (option) => {
    const chosen = value === undefined ? option === field.default : option === value;
    return h("label", { class: option === field.default ? "default" : null },
      h("input", { type: "radio", name: idOf(field), value: text(option), checked: chosen,
        onchange: () => change(option === field.default ? undefined : option) }),
      draw(option));
  };
  box.append(...first.map(add));
  const more = h("button", { onclick: () => { more.replaceWith(...rest.map(add)); box.querySelectorAll("input")[first.length].focus(); } }, h("span.room", icon("down")), "More");
  box.append(...(rest.includes(value) ? rest.map(add) : rest.length ? [more] : []));
  return box;
}

function drawn(option) {
  const two = sides(option);
  if (!two) return [h("span.room", icon("image")), text(option)];
  const [w, tall] = two.map((one) => `${Math.max((one * 25) / Math.max(...two), 5)}px`);
  return [h("span.room", h("i", { vars: { w, h: tall } })), text(option)];
}

// A width and a height as shapes: `change([…])` in the order of the two fields, `more()` for the numbers.
export function shapes(pair, now, change, more) {
  const pixels = h("span.num");
  const tell = (two) => { pixels.textContent = two.every((one) => one !== null) ? (pair[0].name === "width" ? two : [...two].reverse()).join(" × ") : ""; };
  const tile = (one) => h("label", h("input", { type: "radio", name: "f-shape", value: one.name, checked: one.pixels.join() === now.join(), onchange: () => { tell(one.pixels); change(one.pixels); } }), drawn(one.name));
  tell(now);
  return h("div", h("div.label", h("span.plain-label", { id: "l-shape" }, "Shape"), pixels),
    h("div.shapes", { role: "radiogroup", "aria-labelledby": "l-shape" }, sizes(pair).map(tile), h("button", { onclick: more }, h("span.room", icon("down")), "More")));
}

const boxed = (control, ...more) => h("div.field-box", control, more);
const typed = (input) => (input.value === "" ? undefined : Number(input.value)); // of what is no number, a browser gives nothing

function number(field, value, change) {
  const { min, max, step } = field, range = max - min;
  const input = h("input.num", { type: "number", id: idOf(field), min, max, step, placeholder: text(field.default), value: text(value), oninput: () => {
    change(typed(input));
    if (slider) slider.value = input.value || text(field.default) || min;
  } });
  const slider = min !== null && max !== null && range <= 10_000 && h("input", { type: "range", min, max, step: step === "any" ? range / 100 : step,
    "aria-label": field.label, value: text(value ?? field.default ?? min), oninput: () => { input.value = slider.value; change(typed(slider)); } });
  return h("div.number", slider, boxed(input));
}

function seed(field, value, change) {
  const most = Math.min(field.max ?? 2 ** 31 - 1, 2 ** 32 - 1);
  const input = h("input.num", { type: "number", id: idOf(field), placeholder: "any", inputmode: "numeric", step: 1, min: field.min, max: field.max,
    value: text(value), oninput: () => change(typed(input)) });
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
  const area = h("textarea.mono", { id: idOf(field), spellcheck: "false", placeholder: field.default === null ? field.type === "array" ? "[ … ]" : "{ … }" : text(field.default),
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
  return h("label.switch", input, field.label);
}

// Most models take no files: their control is loaded with the first of them.
function files(...said) {
  const place = h("div");
  place.ready = import("./drop.js").then(({ fileField }) => place.append(fileField(...said)));
  return place;
}

const CONTROLS = {
  shape: (field, value, change) => radios(field, value, change, drawn, "shapes"),
  segments: (field, value, change) => radios(field, value, change, (one) => WORDS[one] ?? text(one), "seg"),
  number, seed, select, json, line, text: line, switch: toggle, file: files, files, mask: files,
};

// Returns {el, wrong(message), focus(), draw(value), take(files)}. `context()` is the picture that a mask lies over.
export function makeField(field, value, changed, context) {
  const isGroup = ["shape", "segments", "file", "files", "mask"].includes(field.control), isSwitch = field.control === "switch";
  const help = h("p", { class: field.group === "more" || field.group === "picture" ? "help" : "vh", id: `h-${field.name}` }, field.help);
  const error = h("p.wrong", { id: `e-${field.name}` });
  const reset = h("button.reset", { "aria-label": `Reset ${field.label}`, onclick: () => { changed(undefined); draw(undefined); } }, "Reset");
  const name = isGroup ? h("span.plain-label", { id: `l-${field.name}` }, field.label) : h("label", { for: idOf(field) }, field.label);
  const place = h("div");
  const el = h("div", { class: isSwitch ? "inline" : null, "data-field": field.name, title: field.group === "more" ? null : field.help },
    h("div.label", !isSwitch && [name, field.required && h("span", "required")], reset), place, error, help);
  const mark = (now) => el.classList.toggle("changed", now !== undefined);
  const each = (work) => place.querySelectorAll("input, select, textarea, button").forEach(work);
  function wrong(message) {
    error.textContent = message;
    each((control) => { control.ariaInvalid = message ? "true" : null; });
  }
  function draw(now) {
    const control = CONTROLS[field.control](field, now, (next) => { mark(next); changed(next); if (field.control !== "json") wrong(""); }, wrong, context);
    const describe = () => each((one) => one.setAttribute("aria-describedby", `${error.id} ${help.id}`));
    swap(place, control);
    describe();
    control.ready?.then(describe);
    wrong("");
    mark(now);
  }
  draw(value);
  return { el, wrong, draw, focus: () => (place.querySelector(`[id="${idOf(field)}"]:not([type=file])`) ?? place.querySelector("input:not([type=file]), select, textarea, button"))?.focus(),
    take: async (files) => { await place.firstChild.ready; place.querySelector("[data-drop]").take(files); } };
}
