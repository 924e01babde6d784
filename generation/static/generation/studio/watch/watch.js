/** The tasks side by side, newest first, with a way to cancel them all and to be told when they are done. */

import { button, make } from "../core/dom.js";
import { failure, notice } from "../core/notice.js";
import { read, write } from "../core/keep.js";
import { t } from "../core/texts.js";
import { taskCard } from "./task-card.js";
import { tasks } from "./tasks.js";

const MOST_SHOWN = 60;
const TICK_MS = 1000;

export function watchList() {
  const list = make("div", { className: "tasks" });
  const empty = make("div", { className: "empty" }, make("p", {}, t("nothing_yet")), make("p", { className: "hint" }, t("nothing_yet_hint")));
  const cancelAll = button(t("cancel_all"), { kind: "plain small", onclick: () => cancelEach() });
  const tell = button(t("tell_me"), { drawing: "bell", kind: "plain small", onclick: () => allowNotices(tell) });
  const head = make("div", { className: "spread" }, make("h2", {}, t("pictures_title")), make("span", {}, tell, cancelAll));
  const cards = new Map();
  const refresh = () => {
    const open = tasks.open.length;
    cancelAll.hidden = open < 2;
    empty.hidden = list.children.length > 0;
    document.title = open ? `(${open}) ImageGenX` : "ImageGenX";
  };
  const add = (entry, place = "prepend") => {
    const card = taskCard(entry);
    cards.set(entry.task.task_id, card);
    list[place](card);
    while (list.children.length > MOST_SHOWN) list.lastChild.remove();
    refresh();
  };
  for (const entry of tasks.entries.values()) add(entry);
  tasks.addEventListener("added", ({ detail }) => add(detail));
  tasks.addEventListener("recalled", ({ detail }) => add(detail, "append"));
  for (const name of ["changed", "ended"]) tasks.addEventListener(name, ({ detail }) => (cards.get(detail.task.task_id)?.show(), refresh()));
  tasks.addEventListener("ended", ({ detail }) => tellOf(detail.task));
  setInterval(() => tasks.open.forEach((entry) => cards.get(entry.task.task_id)?.show()), TICK_MS);
  tell.hidden = !("Notification" in window) || read("tell", false);
  refresh();
  return make("section", { className: "watch", aria: { label: t("pictures_title") } }, head, empty, list);
}

async function cancelEach() {
  const open = [...tasks.open];
  const asked = await Promise.allSettled(open.map(({ task }) => tasks.cancel(task.task_id)));
  const failed = asked.find((one) => one.status === "rejected");
  if (failed) failure(failed.reason);
}

async function allowNotices(tell) {
  const said = await Notification.requestPermission();
  write("tell", said === "granted");
  tell.hidden = said === "granted";
  if (said !== "granted") notice(t("tell_refused"));
}

function tellOf(task) {
  const wanted = read("tell", false) && "Notification" in window && Notification.permission === "granted";
  if (wanted && document.hidden) new Notification(t(task.status), { body: task.input.text, tag: task.task_id });
}
