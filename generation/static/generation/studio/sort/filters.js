/** What the gallery is narrowed to: the filters of the history API. */

import { catalogue } from "../core/catalogue.js";
import { button, debounced, make, menu } from "../core/dom.js";
import { failure } from "../core/notice.js";
import { t, titleOf } from "../core/texts.js";
import { boards } from "./boards.js";

const TYPED_MS = 350;
const MARKS = ["approved", "rejected", "unmarked"];
const EMPTY = { text: "", style: "", model: "", resolution: "", status: "succeeded", mark: "", board_id: "", team: "", day: "" };
const STATES = ["succeeded", "open", "failed", "canceled", "expired"];
const SIZES = ["256x256", "512x512", "768x768", "1024x1024", "512x384", "384x512", "768x512", "512x768", "1024x768", "768x1024"];

/** The bar; `onchange` gets the query, without what is empty. */
export function filterBar(onchange) {
  const values = { ...EMPTY };
  const told = () => onchange(queryOf(values));
  const typed = debounced(told, TYPED_MS);
  const text = make("input", { type: "search", placeholder: t("search_prompts"), aria: { label: t("search_prompts") } });
  text.oninput = () => ((values.text = text.value.trim()), typed());
  const day = make("input", { type: "date", aria: { label: t("day") }, max: new Date().toISOString().slice(0, 10) });
  day.onchange = () => ((values.day = day.value), told());
  const of = (name, options) => {
    const made = menu(options, values[name], (value) => ((values[name] = value), told()));
    made.setAttribute("aria-label", options[0][1]);
    return made;
  };
  const menus = {
    style: of("style", [["", t("all_styles_filter")], ...catalogue.styles.map((one) => [one.name, titleOf(one)])]),
    model: of("model", [["", t("all_models")], ...catalogue.models.map((one) => [one.name, one.title.split(" (")[0]])]),
    resolution: of("resolution", [["", t("all_sizes")], ...SIZES.map((size) => [size, size.replace("x", " × ")])]),
    status: of("status", [["", t("all_states")], ...STATES.map((state) => [state, t(state)])]),
    mark: of("mark", [["", t("all_marks")], ...MARKS.map((mark) => [mark, t(`mark_${mark}`)])]),
    board_id: of("board_id", [["", t("all_boards")]]),
    ...(catalogue.account.team ? { team: of("team", [["", t("own_pictures")], ["true", t("team_pictures")]]) } : {}),
  };
  boards.addEventListener("change", () => fillBoards(menus.board_id, values));
  boards.load().catch(failure);
  const clear = button(t("clear_filters"), { kind: "plain small" });
  clear.onclick = () => {
    Object.assign(values, EMPTY);
    text.value = day.value = "";
    for (const [name, one] of Object.entries(menus)) one.value = values[name];
    told();
  };
  return make("search", { className: "filters" }, text, ...Object.values(menus), day, clear);
}

function fillBoards(menu, values) {
  const known = boards.items.map((board) => make("option", { value: board.board_id }, `${board.name} (${board.pictures})`));
  menu.replaceChildren(menu.firstChild, ...known);
  menu.value = values.board_id;
}

function queryOf({ day, ...others }) {
  const days = day ? { since: day, until: day } : {};
  return Object.fromEntries(Object.entries({ ...others, ...days }).filter(([, value]) => value));
}
