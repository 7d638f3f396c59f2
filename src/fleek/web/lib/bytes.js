// Sizes of files in words.
export function bytes(size) {
  if (size === null || size === undefined) return "";
  const units = ["bytes", "KB", "MB", "GB", "TB"];
  let at = 0;
  while (size >= 1000 && at < 4) { size /= 1000; at += 1; }
  return `${at ? size.toFixed(size < 10 ? 1 : 0) : size} ${units[at]}`;
}
