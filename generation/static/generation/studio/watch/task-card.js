/** One task as it is watched: its place in the queue, steps, preview, time left; then its pictures, or why it has none. */

import { button, make } from "../core/dom.js";
import { failure } from "../core/notice.js";
import { has, secondsText, t } from "../core/texts.js";
import { secondsLeft, tasks } from "./tasks.js";

class TaskCard extends HTMLElement {
  entry = null;
  #bar = make("progress", { max: 100, value: 0 });
  #preview = make("div", { className: "preview" });
  #state = make("p", { className: "state" });
  #actions = make("div", { className: "actions" });

  connectedCallback() {
    if (this.firstChild) return;
    const { task } = this.entry;
    this.#bar.setAttribute("aria-label", t("progress_of", { text: task.input.text.slice(0, 60) }));
    const text = make("p", { className: "text", title: task.input.text }, task.input.text);
    this.append(this.#preview, make("div", { className: "about" }, make("div", { className: "spread" }, this.#state, this.#actions), this.#bar, text));
    this.show();
  }

  show() {
    const { task, preview } = this.entry;
    const open = ["queued", "running"].includes(task.status);
    this.className = task.status;
    this.dataset.task = task.task_id;
    this.#bar.hidden = !open;
    this.#bar.value = task.progress;
    this.#state.textContent = open ? this.#progress() : reasonOf(task);
    if (open) this.#showPreview(preview);
    else if (task.outputs.length) this.#showPictures(task);
    else this.#preview.replaceChildren(make("span", { className: "no-picture" }, "×"));
    this.#showActions(open);
  }

  #progress() {
    const { task, step, steps } = this.entry, left = secondsLeft(this.entry);
    const time = left === null ? "" : t("time_left", { time: secondsText(left) });
    const first = task.status === "queued" && task.position ? t("place", { place: task.position }) : t(task.status);
    const drawn = task.status === "running" && step && steps ? t("step_of", { step, steps }) : "";
    return [first, drawn, time].filter(Boolean).join(" · ");
  }

  #showPreview(preview) {
    if (preview && this.#preview.firstChild?.tagName === "IMG") this.#preview.firstChild.src = preview;
    else if (preview) this.#preview.replaceChildren(make("img", { src: preview, alt: t("preview"), className: "rough" }));
    else if (!this.#preview.firstChild) this.#preview.replaceChildren(make("span", { className: "skeleton" }));
  }

  #showPictures(task) {
    const pictures = task.outputs.map((output, index) => {
      const image = make("img", { src: task.outputs.length > 1 ? output.thumbnail_url : output.url, alt: task.input.text });
      const open = () => this.dispatchEvent(new CustomEvent("open-picture", { bubbles: true, detail: { task, index } }));
      return make("button", { type: "button", className: "plain", onclick: open, aria: { label: t("open_picture", { n: index + 1 }) } }, image);
    });
    this.#preview.classList.toggle("many", pictures.length > 1);
    this.#preview.replaceChildren(...pictures);
  }

  #showActions(open) {
    const { task } = this.entry, again = (work) => () => work().catch(failure);
    const wanted = open ? "cancel" : task.outputs.length ? "done" : "retry";
    if (this.#actions.dataset.shown === wanted) return;
    this.#actions.dataset.shown = wanted;
    const dismiss = button(t("dismiss"), { drawing: "close", shown: false, kind: "plain small", onclick: () => this.#dismiss() });
    const shown = {
      cancel: [button(t("cancel"), { kind: "small", onclick: again(() => tasks.cancel(task.task_id)) })],
      retry: [button(t("retry"), { drawing: "again", kind: "small", onclick: again(() => this.#retry()) }), dismiss],
      done: [dismiss],
    };
    this.#actions.replaceChildren(...shown[wanted]);
  }

  async #retry() {
    await tasks.retry(this.entry.task.task_id);
    this.#dismiss();
  }

  #dismiss() {
    tasks.dismiss(this.entry.task.task_id);
    this.remove();
  }
}

/** What became of a task, in words. */
export function reasonOf(task) {
  if (!task.error) return t(task.status);
  const why = has(`reason_${task.error.code}`) ? t(`reason_${task.error.code}`) : task.error.message;
  return `${t(task.status)}: ${why}`;
}

customElements.define("task-card", TaskCard);

export function taskCard(entry) {
  const card = document.createElement("task-card");
  card.entry = entry;
  return card;
}
