// Pictures are loaded a few at a time: a browser has six connections for a host, and requests need some of them.
const AT_ONCE = 3;
const waiting = [];
let busy = 0;

function pump() {
  while (busy < AT_ONCE && waiting.length) {
    const { img, src } = waiting.shift();
    if (!img.isConnected) continue; // scrolled away meanwhile
    busy += 1;
    const done = () => {
      img.removeEventListener("load", done);
      img.removeEventListener("error", done);
      busy -= 1;
      pump();
    };
    img.addEventListener("load", done);
    img.addEventListener("error", done);
    img.src = src;
  }
}

// Loads a picture as soon as it is in the document and its turn has come.
export function load(img, src) {
  waiting.push({ img, src });
  queueMicrotask(pump);
  return img;
}
