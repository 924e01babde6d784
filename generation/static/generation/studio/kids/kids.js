/** The page for children: big buttons with pictures, nothing to read, nothing to set. It asks for what the child-safe
 * profile allows, through a session whose key is bound to that profile, and says aloud what it does.
 */

import { api, onceKey } from "../core/api.js";
import { icon, make } from "../core/dom.js";
import { language, t } from "../core/texts.js";
import { COLOURS, HATTED, SUBJECTS, promptOf } from "./words.js";

const STYLES = ["cartoon", "picture-book", "watercolour", "clay", "paper-cut", "pixel-art"];
const LOOK_MS = 700;
const main = document.getElementById("main");
const chosen = { subject: "bear", colour: "brown", ground: "green", hat: "", style: "" };
const picture = (folder, name) => new URL(`../${folder}/${name}.webp`, import.meta.url).href;
const sayOf = (list, name) => list.find(([one]) => one === name)[language === "zh" ? 1 : 0];

/** Says a text where the browser can. */
function speak(text) {
  if (!("speechSynthesis" in window)) return;
  speechSynthesis.cancel();
  speechSynthesis.speak(Object.assign(new SpeechSynthesisUtterance(text), { lang: language === "zh" ? "zh-CN" : "en", rate: 0.9 }));
}

function pick(name, value, label, face, className = "") {
  const made = make("button", { type: "button", className: `pick ${className}`, title: label, aria: { label, pressed: String(chosen[name] === value) } }, face);
  made.onclick = () => {
    chosen[name] = value;
    for (const other of made.parentElement.children) other.setAttribute("aria-pressed", String(other === made));
    hats.hidden = !HATTED.includes(chosen.subject);
    speak(label);
  };
  return made;
}

const dot = (colour) => {
  const made = make("span", { className: "dot" });
  made.style.background = colour;
  return made;
};

const colours = (name, title, none) =>
  make("div", { className: "line", attributes: { role: "group" }, aria: { label: title } },
    ...(none ? [pick(name, "", none, make("span", { className: "dot none" }))] : []),
    ...COLOURS.map(([one, , colour]) => pick(name, one, `${title}: ${sayOf(COLOURS, one)}`, dot(colour), "round")));

const row = (sign, line) => make("div", { className: "part" }, make("span", { className: `sign ${sign}`, aria: { hidden: "true" } }), line);
const hats = row("hat", colours("hat", t("kids_hat"), t("kids_no_hat")));

function screen(styles) {
  const subjects = make("div", { className: "line", attributes: { role: "group" }, aria: { label: t("kids_what") } },
    ...SUBJECTS.map(([name]) => pick("subject", name, sayOf(SUBJECTS, name), make("img", { src: picture("kids/subjects", name), alt: "", width: 112, height: 112 }))));
  const looks = make("div", { className: "line small", attributes: { role: "group" }, aria: { label: t("style") } },
    ...styles.map((style) => pick("style", style.name, (language === "zh" && style.title_zh) || style.title, make("img", { src: picture("style", style.name), alt: "" }))));
  chosen.style = styles[0]?.name ?? "";
  looks.firstChild?.setAttribute("aria-pressed", "true");
  const result = make("div", { className: "result", aria: { live: "polite" } }, make("span", { className: "faint" }, icon("picture")));
  const go = make("button", { type: "button", className: "go", title: t("kids_paint"), aria: { label: t("kids_paint") } }, icon("brush"));
  go.onclick = () => paint(go, result);
  const words = make("div", { className: "choose" }, subjects, row("paint", colours("colour", t("kids_colour"))), row("ground", colours("ground", t("kids_ground"))), hats, looks);
  return make("div", { className: "kids" }, make("h1", { className: "hidden" }, t("kids")), words, make("div", { className: "stage" }, result, go));
}

async function paint(go, result) {
  const text = promptOf(chosen, language);
  const bar = make("progress", { max: 100, value: 0, aria: { label: t("running") } });
  go.disabled = true;
  result.replaceChildren(make("span", { className: "wait" }, icon("brush")), bar);
  speak(text);
  try {
    const body = { text, params: chosen.style ? { style: chosen.style } : {} };
    let task = await api("image/generate", { method: "POST", body, headers: onceKey() });
    while (["queued", "running"].includes(task.status)) {
      await new Promise((over) => setTimeout(over, LOOK_MS));
      task = await api(`image/task/${task.task_id}`, { headers: { Prefer: "wait=1" } });
      bar.value = task.progress;
    }
    if (!task.outputs.length) throw new Error(t("kids_sorry"));
    const image = make("img", { src: task.outputs[0].url, alt: text });
    const save = make("a", { className: "button", href: task.outputs[0].url, download: `${task.task_id}.${task.outputs[0].format}`, title: t("download"), aria: { label: t("download") } }, icon("download"));
    result.replaceChildren(image, save);
    speak(t("kids_done"));
  } catch {
    result.replaceChildren(make("span", { className: "wait sad" }, ":("), make("p", {}, t("kids_sorry")));
    speak(t("kids_sorry"));
  }
  go.disabled = false;
}

function closed() {
  return make("div", { className: "closed" }, make("img", { src: picture("kids/subjects", "bear"), alt: "" }), make("h1", {}, t("kids")),
    make("p", {}, t("kids_closed")), make("a", { className: "button", href: "/#account" }, t("kids_open_link")));
}

async function start() {
  if (document.body.dataset.session !== "yes") return closed();
  const account = await api("account").catch(() => null);
  if (!account?.profile?.child_safe_styles) return closed();
  const { items } = await api("styles");
  return screen(STYLES.map((name) => items.find((style) => style.name === name && style.child_safe)).filter(Boolean));
}

document.title = `ImageGenX · ${t("kids")}`;
main.replaceChildren(await start());
