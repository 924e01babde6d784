/** Boards: folders of pictures. The list is asked once and kept up; "change" tells who shows it. */

import { api, onceKey } from "../core/api.js";
import { catalogue } from "../core/catalogue.js";
import { openDialog } from "../core/dialog.js";
import { button, field, make } from "../core/dom.js";
import { failure, notice } from "../core/notice.js";
import { t } from "../core/texts.js";
import { references } from "./actions.js";

class Boards extends EventTarget {
  items = [];

  async load() {
    this.items = (await api("boards")).items;
    this.dispatchEvent(new CustomEvent("change"));
  }

  async create(name, shared) {
    const made = await api("boards", { method: "POST", body: { name, shared }, headers: onceKey() });
    await this.load();
    return made;
  }

  async put(board, items) {
    const { added } = await api(`boards/${board.board_id}/pictures`, { method: "POST", body: { add: references(items) } });
    await this.load();
    return added;
  }

  async take(boardId, items) {
    await api(`boards/${boardId}/pictures`, { method: "POST", body: { remove: references(items) } });
    await this.load();
  }

  async remove(board) {
    await api(`boards/${board.board_id}`, { method: "DELETE" });
    await this.load();
  }
}

export const boards = new Boards();

/** Asks on which board the pictures go: one of those that are there, or a new one. */
export async function chooseBoard(items) {
  await boards.load();
  const list = make("ul", { className: "boards" });
  const put = async (board) => {
    try {
      const added = await boards.put(board, items);
      dialog.close();
      notice(t("on_board", { n: added, name: board.name }));
    } catch (error) {
      failure(error);
    }
  };
  const fill = () => list.replaceChildren(...boards.items.map((board) => line(board, put, fill)));
  fill();
  const dialog = openDialog(t("put_on_board"), make("div", { className: "board-choice" }, list, newBoard(put)));
}

function line(board, put, fill) {
  const about = [t("pictures_count", { n: board.pictures }), board.shared ? t("shared_by", { user: board.user }) : ""].filter(Boolean).join(" · ");
  const choose = button(board.name, { drawing: "board", kind: "plain wide", onclick: () => put(board) });
  choose.append(make("small", { className: "hint" }, about));
  const remove = button(t("delete_board", { name: board.name }), { drawing: "bin", shown: false, kind: "plain danger" });
  remove.onclick = async () => {
    if (!confirm(t("delete_board_sure", { name: board.name }))) return;
    await boards.remove(board).catch(failure);
    fill();
  };
  const own = board.user === catalogue.account.user;
  return make("li", {}, choose, own ? remove : null);
}

function newBoard(put) {
  const name = make("input", { maxLength: 100, required: true, placeholder: t("board_example") });
  const shared = make("input", { type: "checkbox" });
  const send = async (event) => {
    event.preventDefault();
    try {
      await put(await boards.create(name.value.trim(), shared.checked));
    } catch (error) {
      failure(error);
    }
  };
  const share = catalogue.account.team ? make("label", { className: "check" }, shared, make("span", {}, t("share_board"))) : null;
  return make("form", { className: "new-board", onsubmit: send }, field(t("new_board"), name), share, button(t("create_and_put"), { drawing: "plus", kind: "primary", type: "submit" }));
}
