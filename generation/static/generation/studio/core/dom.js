/** Elements made in code. Strings become text, never markup: nothing that a prompt says is ever parsed as HTML. */

/** An element with properties and children. `data` and `aria` are objects; null children are left out. */
export function make(tag, properties = {}, ...children) {
  const { data, aria, attributes, ...rest } = properties;
  const element = Object.assign(document.createElement(tag), rest);
  for (const [name, value] of Object.entries(data ?? {})) element.dataset[name] = value;
  for (const [name, value] of Object.entries(aria ?? {})) element.setAttribute(`aria-${name}`, value);
  for (const [name, value] of Object.entries(attributes ?? {})) element.setAttribute(name, value);
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

const PATHS = {
  close: "M6 6l12 12M18 6L6 18",
  check: "M5 12.5l4.5 4.5L19 7.5",
  left: "M15 5l-7 7 7 7",
  right: "M9 5l7 7-7 7",
  down: "M5 9l7 7 7-7",
  download: "M12 4v11m-5-4.5l5 5 5-5M5 20h14",
  again: "M4 12a8 8 0 1 1 2.5 5.8M4 12V6m0 6h6",
  bin: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
  link: "M10 14a4 4 0 0 0 6 0l3-3a4 4 0 0 0-6-6l-1 1M14 10a4 4 0 0 0-6 0l-3 3a4 4 0 0 0 6 6l1-1",
  brush: "M4 20c4 0 5-1.5 5-4l9-11 2 2-11 9c-2.500 0-5 0-5 4z",
  dice: "M5 5h14v14H5zM9 9h.01M15 9h.01M12 12h.01M9 15h.01M15 15h.01",
  lock: "M7 11V8a5 5 0 0 1 10 0v3M5 11h14v9H5z",
  unlock: "M7 11V8a5 5 0 0 1 9.500-2M5 11h14v9H5z",
  picture: "M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4M15 9h.01",
  clock: "M12 4a8 8 0 1 0 0 16 8 8 0 0 0 0-16zM12 8v4.500l3 2",
  plus: "M12 5v14M5 12h14",
  minus: "M5 12h14",
  undo: "M9 7L4 12l5 5M4 12h10a5 5 0 0 1 0 10",
  spark: "M12 3l2 6.500 6.500 2.500-6.500 2.500-2 6.500-2-6.500L3.500 12 10 9.500z",
  grid: "M4 4h7v7H4zM13 4h7v7h-7zM4 13h7v7H4zM13 13h7v7h-7z",
  list: "M4 6h16M4 12h16M4 18h10",
  person: "M12 4a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM4 21c1-5 4-7 8-7s7 2 8 7",
  sun: "M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM12 2v3M12 19v3M2 12h3M19 12h3M5 5l2 2M17 17l2 2M19 5l-2 2M7 17l-2 2",
  bell: "M6 17V11a6 6 0 0 1 12 0v6l2 1H4zM10 21h4",
  speaker: "M4 9v6h4l5 4V5L8 9zM16 9a4 4 0 0 1 0 6",
  invert: "M12 4a8 8 0 1 0 0 16zM12 4a8 8 0 0 1 0 16",
  board: "M4 6h6l2 2.500h8V19H4z",
  compare: "M12 3v18M4 6h4v12H4zM16 6h4v12h-4z",
  team: "M9 5a3.500 3.500 0 1 0 0 7 3.500 3.500 0 0 0 0-7zM2.500 20c.5-4 3-6 6.500-6s6 2 6.500 6M16 5.500a3 3 0 0 1 0 6M18 14.500c2 .7 3.200 2.500 3.500 5.500",
  larger: "M4 20V14m0 6h6m-6 0l7-7M20 4v6m0-6h-6m6 0l-7 7",
};

/** A line drawing of 24 units; it takes the colour of the text around it. */
export function icon(name) {
  const drawing = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  drawing.setAttribute("viewBox", "0 0 24 24");
  drawing.setAttribute("class", "icon");
  drawing.setAttribute("aria-hidden", "true");
  path.setAttribute("d", PATHS[name]);
  drawing.append(path);
  return drawing;
}

/** A button; with an icon alone its text is what screen readers say. */
export function button(text, { drawing = "", shown = true, kind = "", onclick, ...rest } = {}) {
  const inside = [drawing ? icon(drawing) : null, shown ? make("span", {}, text) : null];
  const hidden = shown ? {} : { "label": text };
  const made = make("button", { type: "button", className: kind, onclick, aria: hidden, ...rest }, ...inside);
  if (!shown) made.title = text;
  return made;
}

let numbers = 0;

/** A control with its label above it. */
export function field(text, control, { hint = "", className = "" } = {}) {
  control.id ||= `field-${++numbers}`;
  const label = make("label", { htmlFor: control.id }, text);
  if (!hint) return make("div", { className: `field ${className}` }, label, control);
  const note = make("p", { className: "hint", id: `${control.id}-hint` }, hint);
  control.setAttribute("aria-describedby", note.id);
  return make("div", { className: `field ${className}` }, label, control, note);
}

/** A menu: [value, text] each. */
export function menu(options, value, onchange) {
  const made = make("select", {}, ...options.map(([one, text]) => make("option", { value: one }, text)));
  made.value = value;
  made.addEventListener("change", () => onchange(made.value));
  return made;
}

/** Loads a style sheet once; resolves when it applies. */
export function styleSheet(url) {
  const address = String(url);
  if (document.querySelector(`link[href="${CSS.escape(address)}"]`)) return Promise.resolve();
  return new Promise((loaded) => {
    document.head.append(make("link", { rel: "stylesheet", href: address, onload: loaded, onerror: loaded }));
  });
}

/** Calls `work` when `wait` ms have passed without another call. */
export function debounced(work, wait) {
  let timer = 0;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => work(...values), wait);
  };
}
