/** A modal dialog; Escape and the cross close it, and the focus goes back to where it was. */

import { button, make } from "./dom.js";
import { t } from "./texts.js";

/** Opens one with a title and a body. Returns it; it is removed when it closes. */
export function openDialog(title, body, { className = "" } = {}) {
  const before = document.activeElement;
  const head = make("header", {}, make("h2", {}, title), button(t("close"), { drawing: "close", shown: false, kind: "plain" }));
  const dialog = make("dialog", { className, aria: { label: title } }, head, body);
  head.lastChild.onclick = () => dialog.close();
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("close", () => {
    dialog.remove();
    before?.focus?.();
  });
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}
