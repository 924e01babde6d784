/** The Gallery screen: everything that was made, narrowed by filters, many at once in hand. */

import { api } from "../core/api.js";
import { button, make, styleSheet } from "../core/dom.js";
import { catalogue } from "../core/catalogue.js";
import { failure, notice } from "../core/notice.js";
import { t } from "../core/texts.js";
import { tasks } from "../watch/tasks.js";
import { copyLink, deleteTasks, markAs, saveOne, saveZip, useAgain } from "./actions.js";
import { boards, chooseBoard } from "./boards.js";
import { filterBar } from "./filters.js";
import { openViewer } from "./viewer.js";
import { keyOf } from "./window-grid.js";

const PAGE = "100";

export async function galleryScreen() {
  await styleSheet(new URL("sort.css", import.meta.url));
  const grid = document.createElement("window-grid");
  const empty = make("div", { className: "empty", hidden: true }, make("p", {}, t("nothing_found")));
  const list = new List(grid, empty);
  const bar = selectionBar(grid, list);
  grid.addEventListener("near-end", () => list.more());
  const viewed = { ondelete: (id, gone) => list.deleted([id], gone), onmark: (item) => list.marked([item]) };
  grid.addEventListener("open", ({ detail }) => openViewer(grid.items, detail, viewed));
  grid.addEventListener("stale", ({ detail }) => renew(detail));
  grid.addEventListener("keydown", (event) => key(event, grid, list));
  tasks.addEventListener("ended", () => (list.outdated = true));
  const screen = make("div", { className: "gallery" }, make("h1", { className: "sr" }, t("gallery")), filterBar((query) => list.open(query)), bar, grid, empty);
  screen.addEventListener("shown", () => list.outdated && list.open(list.query));
  return screen;
}

const MARK_KEYS = { a: "approved", x: "rejected", u: null };

/** Delete deletes what is selected; A, X and U approve, reject and unmark it, or the picture that has the focus. */
function key(event, grid, list) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Delete" && grid.selected.size) list.remove();
  const name = event.key.toLowerCase(), number = event.target.closest?.(".tile")?.dataset.number;
  if (!(name in MARK_KEYS)) return;
  const items = grid.selected.size ? grid.chosen : [grid.items[Number(number)]].filter(Boolean);
  if (items.length) list.mark(items, MARK_KEYS[name]);
}

/** The pages of the history that were read so far. */
class List {
  query = { status: "succeeded" };
  outdated = true;
  #cursor = "";
  #ended = false;
  #busy = false;
  #number = 0;

  constructor(grid, empty) {
    Object.assign(this, { grid, empty });
  }

  async open(query) {
    Object.assign(this, { query, outdated: false });
    this.#cursor = "";
    this.#ended = this.#busy = false;
    this.#number += 1;
    this.grid.selectNone();
    await this.more(true);
  }

  async more(fresh = false) {
    if (this.#ended || this.#busy) return;
    this.#busy = true;
    const mine = this.#number;
    try {
      const asked = new URLSearchParams({ limit: PAGE, ...this.query, ...(this.#cursor ? { cursor: this.#cursor } : {}) });
      const page = await api(`image/tasks?${asked}`);
      if (mine !== this.#number) return;
      this.#cursor = page.next_cursor ?? "";
      this.#ended = !page.has_more;
      this.#busy = false;
      this.grid.show(page.items.flatMap(picturesOf), { fresh });
      this.empty.hidden = this.grid.items.length > 0;
      this.grid.hidden = !this.empty.hidden;
    } catch (error) {
      if (mine === this.#number) this.#busy = false;
      failure(error);
    }
  }

  async mark(items, mark) {
    try {
      const n = await markAs(items, mark);
      notice({ approved: t("approved_n", { n }), rejected: t("rejected_n", { n }), null: t("unmarked_n", { n }) }[mark]);
      this.marked(items);
    } catch (error) {
      failure(error);
    }
  }

  /** Shows new marks; what a filter of marks leaves out now goes. */
  marked(items) {
    const { mark } = this.query;
    const keys = new Set(items.map(keyOf));
    if (mark) this.grid.without(new Set(items.filter(({ task, index }) => (task.outputs[index].mark ?? "unmarked") !== mark).map(keyOf)));
    this.grid.redraw(keys);
  }

  /** Takes what is selected from the board that is shown. */
  async takeFromBoard() {
    const items = this.grid.chosen;
    await boards.take(this.query.board_id, items);
    this.grid.without(new Set(items.map(keyOf)));
  }

  /** Deletes what is selected; it comes back when that is taken back. */
  remove() {
    const ids = [...new Set(this.grid.chosen.map(({ task }) => task.task_id))];
    this.deleted(ids, true);
    deleteTasks(ids).then((gone) => this.deleted(ids, gone)).catch((error) => (failure(error), this.open(this.query)));
  }

  deleted(ids, gone) {
    if (!gone) {
      this.open(this.query);
      return;
    }
    const keys = this.grid.items.filter(({ task }) => ids.includes(task.task_id)).map(keyOf);
    this.grid.without(new Set(keys));
  }
}

const picturesOf = (task) => (task.outputs.length ? task.outputs.map((_, index) => ({ task, index })) : [{ task, index: 0 }]);

/** A picture whose address has expired gets a new one. */
async function renew({ item, face }) {
  const task = await api(`image/task/${item.task.task_id}`).catch(() => null);
  const shown = item.task.outputs[item.index];
  const output = task?.outputs.find((one) => one.index === shown.index);
  if (output) {
    Object.assign(shown, output);
    face.src = output.thumbnail_url;
  }
}

function selectionBar(grid, list) {
  const number = make("b", { aria: { live: "polite" } });
  const work = (what) => () => what().catch(failure);
  const one = () => grid.chosen[0];
  const single = [
    button(t("use_again"), { drawing: "again", kind: "small", onclick: () => useAgain(one()) }),
    button(t("copy_link"), { drawing: "link", kind: "small", onclick: work(() => copyLink(one())) }),
  ];
  const pair = button(t("compare"), { drawing: "compare", kind: "small", onclick: work(async () => (await import("./compare.js")).openCompare(...grid.chosen)) });
  const may = catalogue.account.scopes.includes("sort");
  const marks = [
    button(t("approve"), { drawing: "check", kind: "small", onclick: () => list.mark(grid.chosen, "approved") }),
    button(t("reject"), { drawing: "close", kind: "small", onclick: () => list.mark(grid.chosen, "rejected") }),
    button(t("put_on_board"), { drawing: "board", kind: "small", onclick: work(() => chooseBoard(grid.chosen)) }),
  ];
  const take = button(t("take_from_board"), { drawing: "undo", kind: "small", onclick: work(() => list.takeFromBoard()) });
  const sheet = button(t("contact_sheet"), { drawing: "grid", kind: "small", onclick: work(async () => (await import("./sheet.js")).openSheet(grid.chosen)) });
  const zip = button(t("download"), { drawing: "download", kind: "small", onclick: work(() => (grid.selected.size > 1 ? saveZip(grid.chosen) : saveOne(one()))) });
  const remove = button(t("delete"), { drawing: "bin", kind: "small danger", onclick: () => list.remove() });
  const all = button(t("select_all"), { kind: "plain small", onclick: () => grid.selectAll() });
  const none = button(t("select_none"), { kind: "plain small", onclick: () => grid.selectNone() });
  const bar = make("div", { className: "selection", attributes: { role: "toolbar" }, aria: { label: t("selection") } }, number, ...(may ? [...marks, take] : []), pair, zip, sheet, ...single, remove, all, none);
  const hint = make("p", { className: "hint" }, t("gallery_keys"));
  const show = () => {
    const { size } = grid.selected;
    bar.hidden = size === 0;
    hint.hidden = size > 0;
    number.textContent = t("selected", { n: size });
    for (const made of single) made.hidden = size !== 1;
    const chosen = size === 2 ? grid.chosen : [];
    pair.hidden = chosen.length !== 2 || !chosen.every(({ task, index }) => task.outputs[index]);
    take.hidden = !list.query.board_id;
  };
  grid.addEventListener("select", show);
  show();
  return make("div", { className: "selection-place" }, bar, hint);
}
