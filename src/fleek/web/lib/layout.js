// Where tiles are: rows of one height that fill the width, by days. Pure, and linear in the number of tiles.

// `ratio(i)` of each of `total` tiles, `days`: [{name, start}] in order. Returns rows, headings and the height.
export function justify({ total, ratio, days, width, height, gap, heading }) {
  const rows = [], titles = [];
  let y = 0;
  for (let at = 0; at < days.length; at += 1) {
    const end = Math.min(days[at + 1]?.start ?? total, total);
    let start = days[at].start;
    if (start >= end) continue;
    titles.push({ y, name: days[at].name });
    y += heading;
    while (start < end) {
      let sum = 0, stop = start;
      while (stop < end) {
        const one = ratio(stop);
        const now = (width - gap * (stop - start)) / (sum + one);
        if (now < height && stop > start) {
          const before = (width - gap * (stop - start - 1)) / sum;
          if (before - height < height - now) break;
        }
        sum += one;
        stop += 1;
        if (now <= height) break;
      }
      const full = (width - gap * (stop - start - 1)) / sum;
      const tall = full > height * 1.45 ? height : full;
      rows.push({ y, h: tall, start, stop });
      y += tall + gap;
      start = stop;
    }
    y += heading / 2;
  }
  return { rows, titles, height: y };
}

// The rows that touch a range of heights.
export function within(rows, top, bottom) {
  let low = 0, high = rows.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (rows[middle].y + rows[middle].h < top) low = middle + 1;
    else high = middle;
  }
  const found = [];
  for (let at = low; at < rows.length && rows[at].y <= bottom; at += 1) found.push(rows[at]);
  return found;
}

export const rowOf = (rows, index) => rows.findIndex((row) => index >= row.start && index < row.stop);
