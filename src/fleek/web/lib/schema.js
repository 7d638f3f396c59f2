// A model's JSON schema becomes descriptions of fields. Pure.
const SHAPES = new Set(["aspect_ratio", "size", "image_size", "resolution_ratio"]);
const COUNTS = new Set(["num_outputs", "num_images", "n", "number_of_images", "num_images_per_prompt", "batch_size"]);
const KNOWN = { shape: "Shape", count: "How many", format: "Format" };
const FORMATS = new Set(["output_format", "format", "image_format", "audio_format"]);
const FILES = /^(?:(?:input|init|start|end|first_frame|last_frame|control|reference|source|style|subject|face|main_face|style_reference|image_prompt|conditioning)_)?(?:image|images|mask|audio|video|picture|photo|file)(?:_url|_urls|_path|_input|_prompt|_image|_\d|s)?$/;

function resolved(schema, root, depth = 0) {
  if (!schema || typeof schema !== "object" || depth > 8) return {};
  let one = schema;
  if (typeof one.$ref === "string" && one.$ref.startsWith("#")) {
    let target = root;
    for (const part of one.$ref.slice(1).split("/").filter(Boolean)) target = target?.[part.replace(/~1/g, "/").replace(/~0/g, "~")];
    const { $ref, ...rest } = one;
    one = { ...resolved(target, root, depth + 1), ...rest };
  }
  for (const part of one.allOf ?? []) one = { ...resolved(part, root, depth + 1), ...one };
  const choices = one.anyOf ?? one.oneOf;
  if (choices) {
    const real = choices.map((part) => resolved(part, root, depth + 1)).filter((part) => part.type !== "null");
    if (real.length === 1) one = { ...real[0], ...one };
    else if (real.every((part) => "const" in part)) one = { ...one, type: one.type ?? typeof real[0].const, enum: real.map((part) => part.const) };
  }
  if (Array.isArray(one.type)) one = { ...one, type: one.type.find((type) => type !== "null") };
  return one;
}

export const isFile = (name, one) =>
  one.type === "string" && !one.enum && (one.format === "uri" || (FILES.test(name) && !(one.maxLength < 500)));

function control(name, one) {
  if (one.enum && SHAPES.has(name)) return "shape";
  if (COUNTS.has(name) && one.type === "integer") return one.maximum <= 4 ? "segments" : "number";
  if (name === "seed" && one.type === "integer") return "seed";
  if (isFile(name, one)) return /mask/.test(name) ? "mask" : "file";
  if (one.type === "array" && (one.items?.format === "uri" || (FILES.test(name) && one.items?.type === "string"))) return "files";
  if (one.enum) return one.enum.length <= 5 && one.enum.join("").length <= 32 ? "segments" : "select";
  if (one.type === "boolean") return "switch";
  if (one.type === "integer" || one.type === "number") return "number";
  if (one.type === "string") return one.maxLength <= 200 || /^(style|scheduler|language|voice)/.test(name) ? "line" : "text";
  return "json";
}

function group(name, one, how) {
  if (how === "file" || how === "files" || how === "mask") return "picture";
  if (how === "shape") return "shape";
  if (COUNTS.has(name)) return "count";
  if (how === "seed") return "seed";
  if (FORMATS.has(name) && one.enum) return "format";
  return "more";
}

function options(name, one) {
  if (one.enum) return one.enum;
  const low = one.minimum ?? 1;
  return Array.from({ length: one.maximum - low + 1 }, (_, at) => low + at);
}

export const label = (name, title) =>
  (title && title.length < 60 ? title : name.replace(/[_-]+/g, " ").replace(/^./, (first) => first.toUpperCase()));

// Returns fields in the order of the form; null: the schema cannot be shown as a form.
export function fields(schema) {
  const root = resolved(schema, schema);
  if (!root.properties || typeof root.properties !== "object") return null;
  const required = new Set(root.required ?? []);
  const found = Object.entries(root.properties).filter(([name]) => name !== "prompt").map(([name, said], at) => {
    const one = resolved(said, schema);
    if (one.items) one.items = resolved(one.items, schema);
    const how = control(name, one);
    return {
      name, control: how, group: group(name, one, how), type: one.type ?? "any", required: required.has(name),
      label: KNOWN[group(name, one, how)] ?? label(name, one.title), help: one.description ?? "", default: one.default ?? null,
      options: how === "segments" || how === "select" || how === "shape" ? options(name, one) : [],
      min: one.minimum ?? one.exclusiveMinimum ?? null, max: one.maximum ?? one.exclusiveMaximum ?? null,
      step: one.multipleOf ?? (one.type === "integer" ? 1 : "any"), maxLength: one.maxLength ?? null,
      order: one["x-order"] ?? at,
    };
  });
  const pair = found.filter((one) => (one.name === "width" || one.name === "height") && one.control === "number");
  if (pair.length === 2 && !found.some((one) => one.group === "shape")) for (const one of pair) one.group = "sides";
  return found.sort((a, b) => a.order - b.order);
}

// The liked shapes of a width and a height: within their limits, and with about as many pixels as by default.
export function sizes([first, second]) {
  const [wide, tall] = first.name === "width" ? [first, second] : [second, first];
  const area = (wide.default ?? tall.default ?? 1024) * (tall.default ?? wide.default ?? 1024);
  return LIKED.map((name) => {
    const [a, b] = sides(name), fit = Math.min(Math.sqrt(area / (a * b)), (wide.max ?? Infinity) / a, (tall.max ?? Infinity) / b);
    const pixels = [[wide, a], [tall, b]].map(([one, side]) => {
      const step = Number(one.step) > 1 ? Number(one.step) : 8;
      return Math.max(step, Math.floor((side * fit) / step + 1e-6) * step);
    });
    return { name, pixels: first === wide ? pixels : pixels.reverse(), fits: pixels[0] >= (first.min ?? 1) && pixels[1] >= (second.min ?? 1) };
  }).filter((one) => one.fits);
}

// The sides of a shape such as `16:9` or `1024x768`; null: it has none.
export function sides(value) {
  const two = /^(\d{1,5})\s*[:x×*]\s*(\d{1,5})$/.exec(String(value));
  return two ? [Number(two[1]), Number(two[2])] : null;
}
const LIKED = ["1:1", "3:2", "16:9", "4:5", "9:16"];
export function shown(choices) {
  const liked = LIKED.filter((one) => choices.includes(one));
  const rest = choices.filter((one) => !liked.includes(one));
  return [...liked, ...rest].slice(0, choices.length > 6 ? 5 : 6);
}
