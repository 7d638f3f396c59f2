// The same request for a shell, for Python, for the command line, as JSON. Pure.
export const quoted = (text) => `'${String(text).replaceAll("'", "'\\''")}'`;

export function python(value, pad = "") {
  if (value === true) return "True";
  if (value === false) return "False";
  if (value === null) return "None";
  if (Array.isArray(value)) return `[${value.map((one) => python(one)).join(", ")}]`;
  if (typeof value === "object") {
    return `{${Object.entries(value).map(([name, one]) => `${JSON.stringify(name)}: ${python(one, pad)}`).join(", ")}}`;
  }
  return JSON.stringify(value);
}

const json = (body) => JSON.stringify(body, null, 2);

function curl(body, { base, keyed }) {
  const key = keyed ? ' -H "Authorization: Bearer $FLEEK_API_KEY"' : "";
  return `curl ${/^[\w:/.@-]+$/.test(base) ? base : quoted(base)}/api/v1/generate${key} --json ${quoted(json(body))}`;
}

function script(body, { base }) {
  const { prompt, model_name: model, ...rest } = body;
  const said = Object.entries(model ? { model, ...rest } : rest);
  const lines = said.map(([name, value]) =>
    `    ${name}=${name === "run_at" ? `datetime.fromisoformat(${JSON.stringify(value)})` : python(value)},\n`);
  const date = body.run_at ? "from datetime import datetime\n\n" : "";
  return `${date}from fleek import Client

with Client(${JSON.stringify(base)}) as client:
  result = client.generate(
    ${JSON.stringify(prompt)},
${lines.join("")}  )
  result.save()
`;
}

const FLAGS = { model_name: "-m", parameters: "--parameters", metadata: "--metadata", provider: "--provider", priority: "--priority", run_at: "--run-at", deadline_seconds: "--deadline", max_attempts: "--max-attempts" };

function command(body, { base }) {
  const words = Object.entries(FLAGS).filter(([name]) => name in body).map(([name, flag]) =>
    `${flag} ${quoted(typeof body[name] === "object" ? JSON.stringify(body[name]) : body[name])}`);
  return ["fleek generate", `--url ${quoted(base)}`, ...words, `-- ${quoted(body.prompt)}`].join(" \\\n  ");
}

export const LANGUAGES = { curl, Python: script, CLI: command, JSON: json };
export const code = (language, body, where) => LANGUAGES[language](body, where);
