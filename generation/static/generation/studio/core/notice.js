/** Short notices at the foot of the page, read aloud by screen readers. */

import { button, make } from "./dom.js";

const SHOWN_MS = 6000;

/** Shows a text; with `action` a button beside it. Resolves true when the button was pressed, false when time ran out. */
export function notice(text, { action = "", kind = "" } = {}) {
  const place = document.getElementById("notices");
  return new Promise((answered) => {
    const line = make("div", { className: `notice ${kind}` }, make("span", {}, text));
    const end = (pressed) => {
      clearTimeout(timer);
      line.remove();
      answered(pressed);
    };
    const timer = setTimeout(() => end(false), SHOWN_MS);
    if (action) line.append(button(action, { kind: "plain", onclick: () => end(true) }));
    place.append(line);
    while (place.children.length > 3) place.firstChild.remove();
  });
}

export const failure = (error) => notice(error.message, { kind: "bad" });
