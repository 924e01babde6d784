/** Choosing one of the earlier pictures. */

import { api, pictureOf } from "../core/api.js";
import { openDialog } from "../core/dialog.js";
import { button, make } from "../core/dom.js";
import { failure } from "../core/notice.js";
import { t } from "../core/texts.js";

/** The bytes of a picture, or null when none was chosen. */
export function pickPicture() {
  const grid = make("div", { className: "pick" });
  const more = button(t("more"), { kind: "small" });
  let cursor = "";
  return new Promise((chosen) => {
    const dialog = openDialog(t("from_history"), make("div", {}, grid, more), { className: "large" });
    dialog.addEventListener("close", () => chosen(null));
    const take = async (task, output) => {
      try {
        chosen(await pictureOf(task.task_id, output.index));
      } catch (error) {
        failure(error);
      }
      dialog.close();
    };
    const load = async () => {
      const asked = new URLSearchParams({ status: "succeeded", limit: "24", ...(cursor ? { cursor } : {}) });
      const page = await api(`image/tasks?${asked}`).catch((error) => (failure(error), { items: [] }));
      for (const task of page.items) grid.append(...task.outputs.map((output) => pictureButton(task, output, take)));
      if (!grid.children.length) grid.append(make("p", { className: "hint" }, t("no_pictures_yet")));
      cursor = page.next_cursor ?? "";
      more.hidden = !page.has_more;
    };
    more.onclick = load;
    load();
  });
}

function pictureButton(task, output, take) {
  const image = make("img", { src: output.thumbnail_url, alt: task.input.text, loading: "lazy" });
  return make("button", { type: "button", className: "plain", title: task.input.text, onclick: () => take(task, output) }, image);
}
