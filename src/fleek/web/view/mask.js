// Paints a mask on a picture: white is to be painted by the model, black stays.
import { dialog, h } from "../lib/dom.js";

export function paintMask(source, done) {
  const canvas = h("canvas.paint", { tabindex: 0, "aria-label": "The picture; paint on what is to change" });
  const pen = canvas.getContext("2d");
  const size = h("input", { type: "range", min: 4, max: 200, value: 48, "aria-label": "Width of the brush" });
  const erase = h("input", { type: "checkbox" });
  const picture = new Image();
  let down = null, scale = 1;

  picture.addEventListener("load", () => {
    canvas.width = picture.naturalWidth;
    canvas.height = picture.naturalHeight;
    canvas.style.setProperty("--ratio", canvas.width / canvas.height);
    canvas.style.setProperty("background-image", `url("${picture.src}")`);
  });
  picture.src = source;

  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    scale = canvas.width / box.width;
    return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
  };
  function stroke(to) {
    pen.globalCompositeOperation = erase.checked ? "destination-out" : "source-over";
    pen.strokeStyle = "rgb(255 255 255)";
    pen.lineCap = "round";
    pen.lineJoin = "round";
    pen.lineWidth = size.value * scale;
    pen.beginPath();
    pen.moveTo(...down);
    pen.lineTo(...to);
    pen.stroke();
    down = to;
  }
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    down = at(event);
    stroke([down[0] + 0.1, down[1]]);
  });
  canvas.addEventListener("pointermove", (event) => { if (down) stroke(at(event)); });
  canvas.addEventListener("pointerup", () => { down = null; });

  function finish(all) {
    const mask = h("canvas", { width: canvas.width, height: canvas.height }), ink = mask.getContext("2d");
    ink.fillStyle = all ? "white" : "black";
    ink.fillRect(0, 0, mask.width, mask.height);
    if (!all) ink.drawImage(canvas, 0, 0);
    mask.toBlob((blob) => { box.close(); done(new File([blob], "mask.png", { type: "image/png" })); }, "image/png");
  }
  const box = dialog("Paint what is to change", [
    canvas,
    h("div.row.wrap", h("label.row.small", "Brush", size), h("label.row.small", erase, "Erase"),
      h("button.text", { onclick: () => pen.clearRect(0, 0, canvas.width, canvas.height) }, "Clear"),
      h("button.text", { onclick: () => finish(true) }, "Everything"),
      h("span.sp"), h("button.second", { onclick: () => finish(false) }, "Use this mask")),
  ]);
}
