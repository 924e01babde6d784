/** A contact sheet of the selected pictures, made by the server. */

import { request, save } from "../core/api.js";
import { openDialog } from "../core/dialog.js";
import { button, field, make, menu } from "../core/dom.js";
import { failure } from "../core/notice.js";
import { t } from "../core/texts.js";
import { references } from "./actions.js";

export function openSheet(items) {
  const choice = { format: "webp", captions: true };
  const format = menu([["webp", t("sheet_webp")], ["pdf", t("sheet_pdf")]], choice.format, (value) => (choice.format = value));
  const captions = make("input", { type: "checkbox", checked: true, onchange: () => (choice.captions = captions.checked) });
  const go = button(t("make_sheet", { n: items.length }), { drawing: "download", kind: "primary", type: "submit" });
  const send = async (event) => {
    event.preventDefault();
    go.disabled = true;
    try {
      const answer = await request("/api/v1/image/sheet", { method: "POST", body: { pictures: references(items), ...choice } });
      save(await answer.blob(), `contact-sheet.${choice.format}`);
      dialog.close();
    } catch (error) {
      failure(error);
    }
    go.disabled = false;
  };
  const form = make("form", { className: "ask-sheet", onsubmit: send }, field(t("format"), format), make("label", { className: "check" }, captions, make("span", {}, t("sheet_captions"))), go);
  const dialog = openDialog(t("contact_sheet"), form);
}
