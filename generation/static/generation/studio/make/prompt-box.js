/** The prompt: one box that grows, earlier prompts, words that the model does not know, and choices {red|blue}. */

import { button, debounced, make } from "../core/dom.js";
import { openDialog } from "../core/dialog.js";
import { t } from "../core/texts.js";
import { draft } from "./draft.js";
import { earlierPrompts, keepPrompt } from "./send.js";
import { expand } from "./wildcards.js";
import { completions, unknownWords } from "./words.js";

const SETTLED_MS = 250;

export function promptBox(onsend) {
  const box = make("textarea", {
    id: "prompt", name: "text", rows: 2, maxLength: 10_000, placeholder: t("prompt_example"), value: draft.values.text,
    aria: { describedby: "prompt-notes" },
  });
  const notes = make("div", { id: "prompt-notes", className: "notes", aria: { live: "polite" } });
  const suggested = make("div", { className: "suggested", aria: { label: t("suggestions") }, attributes: { role: "group" } });
  const annotate = debounced(() => showNotes(notes, suggested, box), SETTLED_MS);
  const grow = () => {
    box.style.height = "auto";
    box.style.height = `${box.scrollHeight + 2}px`;
  };
  box.addEventListener("input", () => {
    draft.set({ text: box.value });
    grow();
  });
  box.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) onsend();
  });
  draft.addEventListener("change", () => {
    if (box.value !== draft.values.text) box.value = draft.values.text;
    requestAnimationFrame(grow);
    annotate();
  });
  requestAnimationFrame(grow);
  annotate();
  const earlier = button(t("earlier_prompts"), { drawing: "clock", kind: "plain small", onclick: () => showEarlier() });
  const head = make("div", { className: "spread" }, make("label", { htmlFor: "prompt" }, t("prompt")), earlier);
  return make("div", { className: "field prompt" }, head, box, suggested, notes);
}

function showNotes(notes, suggested, box) {
  const { text } = draft.values, known = draft.model?.words ?? null;
  const lines = [];
  const texts = expand(text);
  if (texts.length > 1) lines.push(make("p", { className: "hint" }, t("makes_prompts", { n: texts.length })));
  const strange = unknownWords(text, known);
  if (strange.length) {
    const said = t("unknown_words", { words: strange.slice(0, 8).join(", "), model: draft.model.title.split(" (")[0] });
    lines.push(make("p", { className: "hint warning" }, said));
  }
  notes.replaceChildren(...lines);
  const rest = box === document.activeElement ? completions(text, known) : [];
  const begun = text.match(/([a-z]{2,}|[\u4e00-\u9fff])$/i)?.[0] ?? "";
  suggested.replaceChildren(...rest.map((end) => button(begun + end, { kind: "chip", onclick: () => complete(box, end) })));
}

function complete(box, end) {
  draft.set({ text: `${draft.values.text}${end}${/[a-z]$/i.test(end) ? " " : ""}` });
  box.focus();
}

function showEarlier() {
  const list = make("ul", { className: "earlier" });
  const fill = () => {
    const lines = earlierPrompts().map(({ text, kept }) => {
      const use = button(text, { kind: "plain wide", onclick: () => (draft.set({ text }), dialog.close()) });
      const star = button(t(kept ? "forget_favourite" : "favourite"), { drawing: "spark", shown: false, kind: `plain ${kept ? "chosen" : ""}` });
      star.setAttribute("aria-pressed", String(kept));
      star.onclick = () => (keepPrompt(text, !kept), fill());
      return make("li", {}, use, star);
    });
    list.replaceChildren(...(lines.length ? lines : [make("li", { className: "hint" }, t("no_earlier_prompts"))]));
  };
  const dialog = openDialog(t("earlier_prompts"), list);
  fill();
}
