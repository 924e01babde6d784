/** The Batch screen: lines or a CSV become a table, which is started, watched as it fills, mended and downloaded. The table
 * is kept in this browser with the ids of its tasks, so that closing the page loses nothing.
 */

import { api, save } from "../core/api.js";
import { button, debounced, field, make, menu, styleSheet } from "../core/dom.js";
import { read, write } from "../core/keep.js";
import { failure, notice } from "../core/notice.js";
import { catalogue } from "../core/catalogue.js";
import { t, titleOf } from "../core/texts.js";
import { limitsOf, longerSides, sidesOf } from "../make/shape.js";
import { submit } from "../make/send.js";
import { saveZip } from "../sort/actions.js";
import { reasonOf } from "../watch/task-card.js";
import { tasks } from "../watch/tasks.js";
import { csvOf, rowsOf } from "./csv.js";

const AT_ONCE = 4;
const MOST_ROWS = 1000;
const KEPT_MS = 300;

class Batch {
  rows = read("batch", []).map((row) => ({ ...row, task: null })); // {text, params, id, error, task}
  common = { style: "", resolution: "" };
  #keep = debounced(() => write("batch", this.rows.map(({ text, params, id, error }) => ({ text, params, id, error }))), KEPT_MS);

  keep() {
    this.#keep();
  }

  /** Finds again the tasks of a table that was kept. */
  async restore() {
    const unknown = this.rows.filter((row) => row.id && !row.task);
    for (let at = 0; at < unknown.length; at += AT_ONCE) {
      await Promise.all(unknown.slice(at, at + AT_ONCE).map(async (row) => {
        row.task = await api(`image/task/${row.id}`).catch(() => null);
        if (!row.task) row.id = "";
        else if (["queued", "running"].includes(row.task.status)) tasks.add(row.task);
      }));
    }
  }

  async send(row) {
    row.error = "";
    const params = { ...Object.fromEntries(Object.entries(this.common).filter(([, value]) => value)), ...row.params };
    try {
      row.task = await submit("text2img", row.text, params);
      row.id = row.task.task_id;
      tasks.add(row.task);
    } catch (error) {
      row.error = error.message;
    }
    this.keep();
  }

  get counts() {
    const of = (test) => this.rows.filter(test).length;
    return {
      done: of((row) => row.task?.status === "succeeded"),
      open: of((row) => ["queued", "running"].includes(row.task?.status)),
      failed: of((row) => row.error || ["failed", "expired", "canceled"].includes(row.task?.status)),
      left: of((row) => !row.task && !row.error),
    };
  }
}

export async function batchScreen() {
  await styleSheet(new URL("batch.css", import.meta.url));
  const batch = new Batch();
  const body = make("tbody", {});
  const state = make("p", { className: "hint", aria: { live: "polite" } });
  const lines = new Map(); // row -> <tr>
  const put = (row) => {
    const line = lineOf(row, batch, () => put(row));
    lines.get(row)?.replaceWith(line);
    lines.set(row, line);
    count();
  };
  const fill = () => {
    lines.clear();
    body.replaceChildren(...batch.rows.map((row) => {
      const line = lineOf(row, batch, () => put(row));
      lines.set(row, line);
      return line;
    }));
    count();
  };
  const table = make("div", { className: "scroll" }, make("table", {}, head(), body));
  const buttons = controls(batch, put, fill);
  const count = () => {
    const { done, open, failed, left } = batch.counts;
    state.textContent = t("batch_state", { rows: batch.rows.length, done, open, failed });
    table.hidden = state.hidden = buttons.place.hidden = batch.rows.length === 0;
    buttons.start.disabled = left === 0;
    buttons.again.hidden = failed === 0;
    buttons.zip.disabled = done === 0;
  };
  const rowOf = new Map();
  for (const name of ["changed", "ended"]) {
    tasks.addEventListener(name, ({ detail: { task } }) => {
      const row = rowOf.get(task.task_id) ?? batch.rows.find((one) => one.id === task.task_id);
      if (!row) return;
      row.task = task;
      put(row);
    });
  }
  const screen = make("div", { className: "batch" }, entry(batch, fill), make("section", {}, state, buttons.place, table));
  fill();
  batch.restore().then(fill);
  return screen;
}

function entry(batch, fill) {
  const box = make("textarea", { id: "batch-text", rows: 8, placeholder: t("batch_example"), spellcheck: false });
  const file = make("input", { type: "file", accept: ".csv,.txt,text/csv,text/plain", className: "hidden", tabIndex: -1, aria: { label: t("choose_csv") } });
  file.onchange = async () => {
    if (file.files[0]) box.value = await file.files[0].text();
    file.value = "";
  };
  const fillTable = () => {
    const rows = rowsOf(box.value);
    if (rows.length > MOST_ROWS) {
      notice(t("too_many_rows", { n: MOST_ROWS }), { kind: "bad" });
      return;
    }
    batch.rows.push(...rows.map((row) => ({ ...row, id: "", error: "", task: null })));
    box.value = "";
    batch.keep();
    fill();
  };
  const styles = [["", t("none")], ...catalogue.styles.map((style) => [style.name, titleOf(style)])];
  const limits = limitsOf(catalogue.models[0], catalogue.plan);
  const sizes = ["1:1", "4:3", "3:4"].flatMap((ratio) => longerSides(ratio, limits).map((side) => sidesOf(ratio, side).join("x")));
  return make(
    "section", { className: "entry" },
    make("h1", {}, t("batch")),
    field(t("batch_lines"), box, { hint: t("batch_hint") }),
    make("div", { className: "row" },
      button(t("to_table"), { drawing: "list", kind: "primary", onclick: fillTable }),
      button(t("choose_csv"), { drawing: "picture", onclick: () => file.click() }), file),
    make("div", { className: "grid-2" },
      field(t("style_of_all"), menu(styles, "", (style) => (batch.common.style = style))),
      field(t("size_of_all"), menu([["", t("default")], ...sizes.map((size) => [size, size.replace("x", " × ")])], "", (size) => (batch.common.resolution = size)))),
  );
}

function controls(batch, put, fill) {
  const each = async (rows) => {
    const waiting = [...rows];
    const one = async () => {
      for (let row = waiting.shift(); row; row = waiting.shift()) {
        await batch.send(row);
        put(row);
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, one));
  };
  const failed = (row) => row.error || ["failed", "expired", "canceled"].includes(row.task?.status);
  const start = button(t("start"), { drawing: "spark", kind: "primary", onclick: () => each(batch.rows.filter((row) => !row.task && !row.error)) });
  const again = button(t("failed_again"), { drawing: "again", onclick: () => each(batch.rows.filter(failed)) });
  const zip = button(t("download_zip"), { drawing: "download" });
  zip.onclick = () => saveZip(batch.rows.filter((row) => row.task).map(({ task }) => ({ task, index: 0 }))).catch(failure);
  const list = button(t("download_csv"), { kind: "plain", onclick: () => saveList(batch.rows) });
  const cancel = button(t("cancel_all"), { kind: "plain", onclick: () => cancelAll(batch.rows) });
  const clear = button(t("empty_table"), { kind: "plain danger" });
  clear.onclick = () => {
    batch.rows = [];
    batch.keep();
    fill();
  };
  return { start, again, zip, place: make("div", { className: "row" }, start, again, zip, list, cancel, clear) };
}

function cancelAll(rows) {
  const open = rows.filter((row) => ["queued", "running"].includes(row.task?.status));
  Promise.all(open.map((row) => tasks.cancel(row.id))).catch(failure);
}

function saveList(rows) {
  const lines = rows.map((row) => [row.text, row.task?.status ?? "", row.id, row.task?.outputs[0]?.seed ?? "", row.error || row.task?.error?.message || ""]);
  save(new Blob(["\uFEFF", csvOf(["text", "status", "task_id", "seed", "error"], lines)], { type: "text/csv" }), "batch.csv");
}

const head = () => make("thead", {}, make("tr", {}, ...["#", t("picture"), t("prompt"), t("settings"), t("state"), t("actions")].map((text) => make("th", { scope: "col" }, text))));

function lineOf(row, batch, put) {
  const number = batch.rows.indexOf(row) + 1;
  const text = make("textarea", { rows: 1, value: row.text, aria: { label: t("prompt_of_row", { n: number }) } });
  text.onchange = () => {
    row.text = text.value.trim();
    batch.keep();
  };
  const open = ["queued", "running"].includes(row.task?.status);
  const output = row.task?.outputs[0];
  const show = () => text.dispatchEvent(new CustomEvent("open-picture", { bubbles: true, detail: { task: row.task, index: 0 } }));
  const picture = output
    ? make("button", { type: "button", className: "plain thumb", onclick: show, aria: { label: t("open_picture", { n: number }) } }, make("img", { src: output.thumbnail_url, alt: "" }))
    : make("span", { className: open ? "thumb skeleton" : "thumb" });
  const again = button(t(row.task || row.error ? "run_again" : "run"), { kind: "small", disabled: open });
  again.onclick = async () => {
    row.text = text.value.trim();
    again.disabled = true;
    await batch.send(row);
    put();
  };
  const settings = Object.entries(row.params).map(([name, value]) => `${name}=${value}`).join(" ");
  const said = row.error || (row.task ? (open ? `${t(row.task.status)} ${row.task.progress} %` : reasonOf(row.task)) : t("not_started"));
  return make("tr", { className: row.error ? "failed" : (row.task?.status ?? "") }, make("td", {}, String(number)), make("td", {}, picture),
    make("td", { className: "prompt" }, text), make("td", { className: "hint" }, settings), make("td", { className: "state" }, said), make("td", {}, again));
}
