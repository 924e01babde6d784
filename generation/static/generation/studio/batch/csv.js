/** Lines or a CSV file as rows of a batch. */

const PROMPTS = ["text", "prompt", "提示词"];
export const COLUMNS = ["style", "seed", "resolution", "negative_text", "num_images", "model", "steps", "cfg_scale"];
const NUMBERS = new Set(["seed", "num_images", "steps", "cfg_scale"]);

/** Rows {text, params}. Text with a header that names a prompt is CSV; anything else has one prompt a line. */
export function rowsOf(content) {
  const cells = parse(content.replace(/^\uFEFF/, ""));
  const header = (cells[0] ?? []).map((name) => name.trim().toLowerCase());
  const prompt = header.findIndex((name) => PROMPTS.includes(name));
  if (prompt < 0) return lines(content);
  return cells.slice(1).filter((row) => row[prompt]?.trim()).map((row) => {
    const params = {};
    header.forEach((name, at) => {
      const value = row[at]?.trim();
      if (COLUMNS.includes(name) && value) params[name] = NUMBERS.has(name) ? Number(value) : value;
    });
    return { text: row[prompt].trim(), params };
  });
}

const lines = (content) => content.split(/\r?\n/).map((line) => line.trim()).filter(Boolean).map((text) => ({ text, params: {} }));

/** Cells of a CSV text (RFC 4180): quotes hold commas, line ends, and quotes written twice. */
export function parse(content) {
  const rows = [[]];
  let cell = "", quoted = false;
  for (let at = 0; at < content.length; at += 1) {
    const sign = content[at];
    if (quoted) {
      if (sign !== '"') cell += sign;
      else if (content[at + 1] === '"') cell += content[(at += 1)];
      else quoted = false;
    } else if (sign === '"' && cell === "") quoted = true;
    else if (sign === ",") {
      rows.at(-1).push(cell);
      cell = "";
    } else if (sign === "\n") {
      rows.at(-1).push(cell.replace(/\r$/, ""));
      rows.push([]);
      cell = "";
    } else cell += sign;
  }
  rows.at(-1).push(cell.replace(/\r$/, ""));
  return rows.filter((row) => row.some((one) => one.trim()));
}

/** Rows as CSV. A cell that a spreadsheet would take for a formula gets an apostrophe. */
export function csvOf(header, rows) {
  const cell = (value) => {
    const text = String(value ?? "");
    const safe = /^[=+\-@\t\r]/.test(text) && Number.isNaN(Number(text)) ? `'${text}` : text;
    return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  return [header, ...rows].map((row) => row.map(cell).join(",")).join("\r\n");
}
