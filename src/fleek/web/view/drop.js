// Files as inputs: chosen, dropped, pasted; from a former job; by address. Masks are painted.
import { h, iconButton, swap } from "../lib/dom.js";
import { api } from "../lib/api.js";
import { bytes } from "../lib/bytes.js";
import { preview, previews } from "./preview.js";

export async function upload(file) {
  const sent = await api("uploads", { method: "POST", body: file, headers: { "Content-Type": file.type || "application/octet-stream" } });
  if (sent.content_type.startsWith("image/")) previews.set(sent.reference, URL.createObjectURL(file));
  return sent;
}

const WANTED = [[/image|mask|picture|photo|img/, "image", "a picture"], [/audio|voice|song/, "audio", "a recording"], [/video/, "video", "a video"]];
function fitting(field, sent) {
  const [, kind, words] = WANTED.find(([pattern]) => pattern.test(field.name)) ?? [];
  if (kind && !sent.content_type.startsWith(`${kind}/`)) throw new Error(`This is ${sent.content_type}, not ${words}.`);
  return sent;
}

export function fileField(field, value, change, wrong, context) {
  const many = field.control === "files";
  const all = value === undefined ? [] : [value].flat();
  const choose = h("input.vh", { type: "file", id: `f-${field.name}`, multiple: many, tabindex: -1, "aria-labelledby": `l-${field.name}`, onchange: () => {
    const files = [...choose.files];
    choose.value = ""; // or the same file could not be chosen twice
    take(files);
  } });
  const list = h("div.stack");
  const box = h("div.drop", { "data-drop": field.name,
    ondragover: (event) => { event.preventDefault(); box.classList.add("over"); },
    ondragleave: () => box.classList.remove("over"),
    ondrop: (event) => {
      event.preventDefault();
      event.stopPropagation();
      box.classList.remove("over");
      const job = event.dataTransfer.getData("text/x-fleek-job");
      if (job) add([`job:${job}`]);
      else take([...event.dataTransfer.files]);
    } }, choose, list);
  const said = () => change(all.length === 0 ? undefined : many ? [...all] : all[0]);

  function add(references) {
    if (!many) all.length = 0;
    all.push(...references);
    said();
    draw();
  }

  async function take(files) {
    if (!files.length) return;
    swap(list, h("span", { role: "status" }, "Uploading…"));
    try {
      const sent = [];
      for (const file of files.slice(0, many ? 10 : 1)) sent.push(fitting(field, await upload(file)).reference);
      add(sent);
    } catch (error) {
      draw();
      wrong(error.status === 413 ? `This file is too large (${bytes(files[0].size)}). ${error.message}` : error.message);
    }
  }

  function entry(reference, at) {
    const picture = preview(reference);
    return h("div.row", picture && h("img", { src: picture, alt: "" }), h("span.cut.sp.small", reference),
      iconButton("x", `Remove ${reference}`, () => { all.splice(at, 1); said(); draw(); }));
  }

  function draw() {
    const address = h("input", { type: "text", placeholder: "or an address: https://…", "aria-label": `Address for ${field.label}`,
      onchange: () => { if (address.value.trim()) add([address.value.trim()]); } });
    const open = many || all.length === 0;
    const source = field.control === "mask" && open && preview(context());
    swap(list, all.map(entry),
      open && h("div.row.wrap", h("button", { onclick: () => choose.click() }, "Choose a file"),
        h("span", "drop or paste it here"),
        source && h("button", { onclick: async () => (await import("./mask.js")).paintMask(source, (file) => take([file])) }, "Paint a mask")),
      open && h("div.field-box", address));
  }
  draw();
  box.take = take;
  box.add = add;
  return box;
}
