/** One picture over the whole window, with how it was made and what can be done with it. Arrows go to the next one. */

import { catalogue } from "../core/catalogue.js";
import { button, make, styleSheet } from "../core/dom.js";
import { failure } from "../core/notice.js";
import { momentText, t, titleOf } from "../core/texts.js";
import * as actions from "./actions.js";

/** Opens the picture `at` of a list of {task, index}. `ondelete` gets what was deleted, `onmark` what was marked. */
export async function openViewer(list, at, { ondelete, onmark } = {}) {
  await styleSheet(new URL("sort.css", import.meta.url));
  const dialog = make("dialog", { className: "viewer", aria: { label: t("picture") } });
  const before = document.activeElement;
  let number = at;
  const move = (step) => {
    number = (number + step + list.length) % list.length;
    draw();
  };
  const draw = () => {
    const item = list[number], output = item.task.outputs[item.index];
    const picture = output
      ? make("img", { src: output.url, alt: item.task.input.text })
      : make("p", { className: "no-picture" }, item.task.error?.message ?? t(item.task.status));
    const close = button(t("close"), { drawing: "close", shown: false, kind: "over close", onclick: () => dialog.close() });
    const arrows = list.length > 1
      ? [button(t("previous"), { drawing: "left", shown: false, kind: "over left", onclick: () => move(-1) }),
         button(t("next"), { drawing: "right", shown: false, kind: "over right", onclick: () => move(1) })]
      : [];
    const done = () => dialog.close();
    dialog.replaceChildren(make("div", { className: "whole" }, picture, close, ...arrows), about(item, done, ondelete, mark));
  };
  const mark = async (wanted) => {
    const item = list[number];
    if (!item.task.outputs[item.index] || !catalogue.account.scopes.includes("sort")) return;
    await actions.markAs([item], wanted).catch(failure);
    onmark?.(item);
    draw();
  };
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") move(-1);
    if (event.key === "ArrowRight") move(1);
    if (event.key in MARK_KEYS && !event.ctrlKey && !event.metaKey) mark(MARK_KEYS[event.key]);
    if (event.key.startsWith("Arrow")) dialog.focus();
  });
  dialog.addEventListener("close", () => {
    dialog.remove();
    before?.focus?.();
  });
  dialog.tabIndex = -1;
  draw();
  document.body.append(dialog);
  dialog.showModal();
  dialog.focus();
}

const MARK_KEYS = { a: "approved", x: "rejected", u: null };

/** Two buttons that show the mark; pressing the one that is on takes it away. */
function marking({ task, index }, mark) {
  const now = task.outputs[index]?.mark;
  if (!task.outputs[index] || !catalogue.account.scopes.includes("sort")) return null;
  const choice = (name, text, drawing) =>
    button(text, { drawing, kind: "small", aria: { pressed: String(now === name) }, onclick: () => mark(now === name ? null : name) });
  return make("div", { className: "row" }, choice("approved", t("approve"), "check"), choice("rejected", t("reject"), "close"));
}

function about(item, done, ondelete, mark) {
  const { task, index } = item;
  const facts = make("dl", {}, ...factsOf(item).flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, String(value))]));
  return make("aside", {}, make("h2", {}, task.input.text), marking(item, mark), doing(item, done, ondelete), facts,
    ...(task.warnings ?? []).map((text) => make("p", { className: "hint warning" }, text)),
    make("p", { className: "hint" }, `${task.task_id} · ${index + 1}/${Math.max(1, task.outputs.length)}`));
}

function doing(item, done, ondelete) {
  const does = (work, { leaves = false } = {}) => async () => {
    try {
      await work(item);
      if (leaves) done();
    } catch (error) {
      failure(error);
    }
  };
  const remove = () => {
    done();
    actions.deleteTasks([item.task.task_id]).then((gone) => ondelete?.(item.task.task_id, gone)).catch(failure);
    ondelete?.(item.task.task_id, true);
  };
  const has = item.task.outputs.length > 0, away = { leaves: true };
  return make("div", { className: "row" }, ...[
    has && button(t("download"), { drawing: "download", kind: "small primary", onclick: does(actions.saveOne) }),
    button(t("use_again"), { drawing: "again", kind: "small", onclick: does(actions.useAgain, away) }),
    has && button(t("variations"), { drawing: "grid", kind: "small", onclick: does(actions.variations, away) }),
    has && button(t("start_from_this"), { drawing: "picture", kind: "small", onclick: does(actions.startFrom, away) }),
    has && button(t("repaint"), { drawing: "brush", kind: "small", onclick: does((one) => actions.startFrom(one, "inpaint"), away) }),
    has && catalogue.plan.super_resolution && button(t("enlarge"), { drawing: "larger", kind: "small", onclick: does(actions.enlarge, away) }),
    has && button(t("copy_link"), { drawing: "link", kind: "small", onclick: does(actions.copyLink) }),
    has && catalogue.account.scopes.includes("sort") && button(t("put_on_board"), { drawing: "board", kind: "small", onclick: does(async (one) => (await import("./boards.js")).chooseBoard([one])) }),
    button(t("delete"), { drawing: "bin", kind: "small danger", onclick: remove }),
  ].filter(Boolean));
}

function factsOf({ task, index }) {
  const { input } = task, output = task.outputs[index];
  const style = catalogue.styles.find((one) => one.name === input.style);
  const found = [
    [t("negative"), input.negative_text], [t("style"), style && titleOf(style)], [t("model"), input.model],
    [t("size"), output ? `${output.width} × ${output.height}` : input.resolution], [t("steps"), input.steps],
    [t("guidance"), input.cfg_scale], [t("sampler"), input.sampler], [t("seed"), output?.seed ?? input.seed],
    ["LoRA", input.loras.map((lora) => `${lora.name} ${lora.weight}`).join(", ")], [t("format"), output?.format.toUpperCase()],
    [t("made"), task.created_at && momentText(task.created_at)],
  ];
  return found.filter(([, value]) => value !== undefined && value !== null && value !== "");
}
