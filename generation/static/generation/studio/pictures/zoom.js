/** Looking closer at a picture while painting on it: buttons, Ctrl and the wheel, and a hand that moves what is seen. */

import { button, make } from "../core/dom.js";
import { t } from "../core/texts.js";

const STEPS = [1, 1.5, 2, 3, 4, 6, 8];

/** `view` scrolls, `stage` is in it and grows. Returns the buttons; `moving()` says whether the hand is in use. */
export function zoomTools(view, stage) {
  let at = 0, hand = null;
  const shown = make("output", {}, "100 %");
  const zoom = (step, [x, y] = [view.clientWidth / 2, view.clientHeight / 2]) => {
    const before = STEPS[at];
    at = Math.max(0, Math.min(STEPS.length - 1, at + step));
    const factor = STEPS[at] / before;
    const [left, top] = [(view.scrollLeft + x) * factor - x, (view.scrollTop + y) * factor - y];
    view.style.setProperty("--zoom", STEPS[at]);
    view.classList.toggle("zoomed", at > 0);
    view.scrollTo(left, top);
    shown.textContent = `${Math.round(STEPS[at] * 100)} %`;
    if (at === 0 && moving.value) toggle();
    move.disabled = at === 0;
  };
  const moving = { value: false };
  const toggle = () => {
    moving.value = !moving.value;
    move.setAttribute("aria-pressed", String(moving.value));
    view.classList.toggle("moving", moving.value);
  };
  const move = button(t("move_view"), { kind: "small", aria: { pressed: "false" }, onclick: toggle, disabled: true });
  view.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    const box = view.getBoundingClientRect();
    zoom(event.deltaY < 0 ? 1 : -1, [event.clientX - box.left, event.clientY - box.top]);
  }, { passive: false });
  stage.addEventListener("pointerdown", (event) => {
    if (!moving.value && event.button !== 1) return;
    event.preventDefault();
    event.stopPropagation();
    hand = [event.clientX + view.scrollLeft, event.clientY + view.scrollTop];
    stage.setPointerCapture(event.pointerId);
  }, { capture: true });
  stage.addEventListener("pointermove", (event) => {
    if (!hand) return;
    event.stopPropagation();
    view.scrollTo(hand[0] - event.clientX, hand[1] - event.clientY);
  }, { capture: true });
  for (const name of ["pointerup", "pointercancel"]) stage.addEventListener(name, () => (hand = null), { capture: true });
  const closer = button(t("zoom_in"), { drawing: "plus", shown: false, kind: "small square", onclick: () => zoom(1) });
  const farther = button(t("zoom_out"), { drawing: "minus", shown: false, kind: "small square", onclick: () => zoom(-1) });
  return [farther, shown, closer, move];
}
