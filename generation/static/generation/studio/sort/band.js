/** Selecting by dragging a rectangle over a grid. With Ctrl or Shift it adds to what is selected. */

import { make } from "../core/dom.js";

const BEGINS = 6; // px that the mouse moves before a press is no click
const EDGE = 40; // px from the edge, within which the grid scrolls
const SCROLL = 14; // px a frame

/** `grid` has `inRect`, `choose`, `selected`; `inner` is what scrolls in it. Touch scrolls as it does everywhere. */
export function rubberBand(grid, inner) {
  let start = null; // in the coordinates of `inner`
  let before = new Set(), frame = 0, last = null;
  const band = make("div", { className: "band", hidden: true });
  grid.append(band);

  const placeOf = (event) => {
    const box = inner.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  const draw = () => {
    frame = 0;
    if (!start || band.hidden) return;
    const view = grid.getBoundingClientRect();
    if (last.clientY > view.bottom - EDGE) grid.scrollTop += SCROLL;
    else if (last.clientY < view.top + EDGE) grid.scrollTop -= SCROLL;
    const [x, y] = placeOf(last);
    const [left, right] = [Math.min(start[0], x), Math.max(start[0], x)];
    const [top, bottom] = [Math.min(start[1], y), Math.max(start[1], y)];
    Object.assign(band.style, { transform: `translate(${left}px, ${top}px)`, width: `${right - left}px`, height: `${bottom - top}px` });
    grid.choose(new Set([...before, ...grid.inRect(left, top, right, bottom)]));
    frame = requestAnimationFrame(draw);
  };

  grid.addEventListener("pointerdown", (event) => {
    const onBar = event.clientX - grid.getBoundingClientRect().left > grid.clientWidth;
    if (event.button !== 0 || event.pointerType !== "mouse" || onBar) return;
    start = placeOf(event);
    before = event.ctrlKey || event.metaKey || event.shiftKey ? new Set(grid.selected) : new Set();
  });
  addEventListener("pointermove", (event) => {
    if (!start) return;
    last = event;
    const [x, y] = placeOf(event);
    if (band.hidden && Math.hypot(x - start[0], y - start[1]) < BEGINS) return;
    band.hidden = false;
    frame ||= requestAnimationFrame(draw);
  });
  const end = () => {
    if (start && !band.hidden) addEventListener("click", (event) => event.stopPropagation(), { capture: true, once: true });
    start = null;
    cancelAnimationFrame(frame);
    frame = 0;
    setTimeout(() => (band.hidden = true));
  };
  addEventListener("pointerup", end);
  addEventListener("pointercancel", end);
}
