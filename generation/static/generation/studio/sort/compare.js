/** Two pictures over one another; a slider says how much of each is seen. */

import { openDialog } from "../core/dialog.js";
import { make } from "../core/dom.js";
import { t } from "../core/texts.js";

export function openCompare(one, other) {
  const face = ({ task, index }, className) => make("img", { className, src: task.outputs[index].url, alt: task.input.text, draggable: false });
  const stage = make("div", { className: "compared" }, face(one, "under"), face(other, "over-it"), make("span", { className: "divide", aria: { hidden: "true" } }));
  const slider = make("input", { type: "range", min: 0, max: 100, step: 0.5, value: 50, aria: { label: t("compare_slider") } });
  const move = () => stage.style.setProperty("--at", `${slider.value}%`);
  slider.oninput = move;
  const drag = (event) => {
    const box = stage.getBoundingClientRect();
    slider.value = (100 * (event.clientX - box.left)) / box.width;
    move();
  };
  stage.addEventListener("pointerdown", (event) => {
    stage.setPointerCapture(event.pointerId);
    drag(event);
  });
  stage.addEventListener("pointermove", (event) => stage.hasPointerCapture(event.pointerId) && drag(event));
  move();
  const names = make("div", { className: "spread" }, ...[one, other].map(({ task, index }) => make("p", { className: "hint" }, `${task.input.text.slice(0, 80)} · ${t("seed")} ${task.outputs[index].seed}`)));
  const dialog = openDialog(t("compare"), make("div", { className: "compare" }, stage, slider, names), { className: "large" });
  slider.focus();
  return dialog;
}
