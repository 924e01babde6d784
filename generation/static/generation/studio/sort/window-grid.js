/** A grid of any number of pictures of which only those in sight are in the page.
 *
 * It holds items {task, index}, knows which are selected, and is used by pointer and keyboard as a list of options:
 * arrows move, Shift extends, Space and Ctrl-click select, Enter opens, Ctrl-A takes all, Escape none.
 *
 * Events: "open" with the number of an item, "select", "near-end" when the last items come into sight.
 */

import { make } from "../core/dom.js";
import { t } from "../core/texts.js";
import { rubberBand } from "./band.js";

const SPARE_ROWS = 3; // above and below what is in sight
const NEAR_END_ROWS = 12;
const GAP = 8; // px
const NARROWEST = 152; // px of a tile

class WindowGrid extends HTMLElement {
  items = [];
  selected = new Set(); // keys
  #tiles = new Map(); // number -> element
  #columns = 1;
  #side = 0;
  #focus = 0;
  #anchor = 0;
  #frame = 0;
  #inner = make("div", { className: "inner", attributes: { role: "listbox" }, aria: { multiselectable: "true", label: t("gallery") } });

  connectedCallback() {
    if (!this.firstChild) {
      this.append(this.#inner);
      this.addEventListener("scroll", () => this.#later());
      this.#inner.addEventListener("click", (event) => this.#click(event));
      this.#inner.addEventListener("keydown", (event) => this.#key(event));
      rubberBand(this, this.#inner);
      new ResizeObserver(() => this.#measure()).observe(this);
    }
    this.#measure();
  }

  static keyOf({ task, index }) {
    return `${task.task_id}/${task.outputs[index]?.index ?? index}`;
  }

  /** Puts items after those that are there, or in their place. */
  show(items, { fresh = false } = {}) {
    if (fresh) {
      this.items = [];
      this.#drop();
      this.scrollTop = 0;
      this.#focus = this.#anchor = 0;
    }
    this.items.push(...items);
    this.#measure();
  }

  /** Takes items out, for those that were deleted. */
  without(keys) {
    this.items = this.items.filter((item) => !keys.has(WindowGrid.keyOf(item)));
    for (const key of keys) this.selected.delete(key);
    this.#focus = Math.min(this.#focus, Math.max(0, this.items.length - 1));
    this.#drop();
    this.#measure();
    this.#said();
  }

  selectNone() {
    this.selected.clear();
    this.#mark();
  }

  selectAll() {
    this.selected = new Set(this.items.map(WindowGrid.keyOf));
    this.#mark();
  }

  /** Selects these keys and no others. */
  choose(keys) {
    if (keys.size === this.selected.size && [...keys].every((key) => this.selected.has(key))) return;
    this.selected = keys;
    this.#mark();
  }

  /** The keys of the items that a rectangle meets, in px of the whole grid. */
  inRect(left, top, right, bottom) {
    const step = this.#side + GAP, found = [];
    const clamp = (value, most) => Math.max(0, Math.min(most, value));
    const columns = [clamp(Math.floor(left / step), this.#columns - 1), clamp(Math.floor(right / step), this.#columns - 1)];
    for (let row = Math.max(0, Math.floor(top / step)); row <= Math.floor(bottom / step); row += 1) {
      for (let column = columns[0]; column <= columns[1]; column += 1) {
        const item = this.items[row * this.#columns + column];
        if (item) found.push(WindowGrid.keyOf(item));
      }
    }
    return found;
  }

  /** Draws items again that have changed. */
  redraw(keys) {
    for (const [number, tile] of this.#tiles) {
      if (keys.has(WindowGrid.keyOf(this.items[number]))) this.#showMark(tile, this.items[number]);
    }
  }

  #showMark(tile, { task, index }) {
    const mark = task.outputs[index]?.mark ?? "";
    tile.classList.toggle("approved", mark === "approved");
    tile.classList.toggle("rejected", mark === "rejected");
    const words = task.input.text.slice(0, 120) || t(task.status);
    tile.setAttribute("aria-label", mark ? `${words} (${t(`mark_${mark}`)})` : words);
  }

  get chosen() {
    return this.items.filter((item) => this.selected.has(WindowGrid.keyOf(item)));
  }

  focusOn(number) {
    this.#focus = Math.max(0, Math.min(this.items.length - 1, number));
    const top = Math.floor(this.#focus / this.#columns) * (this.#side + GAP);
    if (top < this.scrollTop) this.scrollTop = top;
    if (top + this.#side > this.scrollTop + this.clientHeight) this.scrollTop = top + this.#side - this.clientHeight + GAP;
    this.#render();
    this.#tiles.get(this.#focus)?.focus({ preventScroll: true });
  }

  #measure() {
    const width = this.#inner.clientWidth;
    if (!width) return;
    this.#columns = Math.max(2, Math.floor((width + GAP) / (NARROWEST * (width > 2000 ? 1.5 : 1) + GAP)));
    const side = (width + GAP) / this.#columns - GAP;
    if (side !== this.#side) this.#drop();
    this.#side = side;
    this.#inner.style.height = `${Math.ceil(this.items.length / this.#columns) * (side + GAP)}px`;
    this.#render();
  }

  #later() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#render();
    });
  }

  #render() {
    const row = this.#side + GAP;
    const first = Math.max(0, Math.floor(this.scrollTop / row) - SPARE_ROWS) * this.#columns;
    const rows = Math.ceil(this.clientHeight / row) + 2 * SPARE_ROWS + 1;
    const last = Math.min(this.items.length, first + rows * this.#columns);
    for (const [number, tile] of this.#tiles) {
      if ((number < first || number >= last) && tile !== document.activeElement) {
        tile.remove();
        this.#tiles.delete(number);
      }
    }
    for (let number = first; number < last; number += 1) if (!this.#tiles.has(number)) this.#addTile(number);
    if (this.items.length && last + NEAR_END_ROWS * this.#columns >= this.items.length) this.dispatchEvent(new CustomEvent("near-end"));
  }

  #addTile(number) {
    const item = this.items[number], { task, index } = item;
    const output = task.outputs[index];
    const face = output
      ? make("img", { src: output.thumbnail_url, alt: "", decoding: "async", draggable: false })
      : make("span", { className: `no-picture ${task.status}` }, t(task.status));
    const chosen = this.selected.has(WindowGrid.keyOf(item));
    const tile = make(
      "div",
      { className: "tile", tabIndex: number === this.#focus ? 0 : -1, data: { number }, attributes: { role: "option" },
        aria: { selected: String(chosen), setsize: this.items.length, posinset: number + 1 } },
      face, make("span", { className: "mark", title: t("select") }),
    );
    this.#showMark(tile, item);
    const column = number % this.#columns, row = Math.floor(number / this.#columns);
    Object.assign(tile.style, {
      width: `${this.#side}px`, height: `${this.#side}px`,
      transform: `translate(${column * (this.#side + GAP)}px, ${row * (this.#side + GAP)}px)`,
    });
    if (output) face.addEventListener("error", () => this.dispatchEvent(new CustomEvent("stale", { detail: { item, face } })), { once: true });
    this.#tiles.set(number, tile);
    this.#inner.append(tile);
  }

  #drop() {
    for (const tile of this.#tiles.values()) tile.remove();
    this.#tiles.clear();
  }

  #click(event) {
    const tile = event.target.closest(".tile");
    if (!tile) return;
    const number = Number(tile.dataset.number);
    if (event.shiftKey) this.#range(this.#anchor, number);
    else if (event.ctrlKey || event.metaKey || event.target.classList.contains("mark")) this.#toggle(number);
    else this.dispatchEvent(new CustomEvent("open", { detail: number }));
    this.#moveFocus(number);
  }

  #key(event) {
    const page = Math.max(1, Math.floor(this.clientHeight / (this.#side + GAP))) * this.#columns;
    const steps = {
      ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.#columns, ArrowDown: this.#columns,
      PageUp: -page, PageDown: page, Home: -this.items.length, End: this.items.length,
    };
    if (event.key in steps) {
      const next = Math.max(0, Math.min(this.items.length - 1, this.#focus + steps[event.key]));
      if (event.shiftKey) this.#range(this.#anchor, next);
      else this.#anchor = next;
      this.#moveFocus(next);
      this.focusOn(next);
    } else if (event.key === " ") this.#toggle(this.#focus);
    else if (event.key === "Enter") this.dispatchEvent(new CustomEvent("open", { detail: this.#focus }));
    else if (event.key === "a" && (event.ctrlKey || event.metaKey)) this.selectAll();
    else if (event.key === "Escape") this.selectNone();
    else return;
    event.preventDefault();
  }

  #moveFocus(number) {
    const before = this.#tiles.get(this.#focus), next = this.#tiles.get(number);
    if (before) before.tabIndex = -1;
    this.#focus = number;
    if (next) next.tabIndex = 0;
  }

  #toggle(number) {
    const key = WindowGrid.keyOf(this.items[number]);
    if (!this.selected.delete(key)) this.selected.add(key);
    this.#anchor = number;
    this.#mark();
  }

  #range(from, to) {
    for (let number = Math.min(from, to); number <= Math.max(from, to); number += 1) this.selected.add(WindowGrid.keyOf(this.items[number]));
    this.#mark();
  }

  #mark() {
    for (const [number, tile] of this.#tiles) tile.setAttribute("aria-selected", String(this.selected.has(WindowGrid.keyOf(this.items[number]))));
    this.#said();
  }

  #said() {
    this.classList.toggle("selecting", this.selected.size > 0);
    this.dispatchEvent(new CustomEvent("select"));
  }
}

customElements.define("window-grid", WindowGrid);
export const keyOf = WindowGrid.keyOf;
