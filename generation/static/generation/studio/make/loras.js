/** LoRAs with their weights, up to three. */

import { catalogue } from "../core/catalogue.js";
import { button, make } from "../core/dom.js";
import { t } from "../core/texts.js";
import { draft } from "./draft.js";

const MOST = 3;

export function loraPicker() {
  const place = make("fieldset", { className: "loras" });
  const fill = () => {
    const chosen = draft.values.loras;
    const free = catalogue.loras.filter((lora) => !chosen.some((one) => one.name === lora.name));
    const adder = make("select", { aria: { label: t("add_lora") } }, make("option", { value: "" }, t("add_lora")),
      ...free.map((lora) => make("option", { value: lora.name }, lora.title || lora.name)));
    adder.onchange = () => adder.value && draft.set({ loras: [...chosen, { name: adder.value, weight: 1 }] });
    place.replaceChildren(make("legend", {}, "LoRA"), ...chosen.map(line), ...(free.length && chosen.length < MOST ? [adder] : []));
    place.hidden = !catalogue.loras.length;
  };
  draft.addEventListener("change", (event) => event.detail.includes("loras") && fill());
  fill();
  return place;
}

function line(lora) {
  const title = catalogue.loras.find((one) => one.name === lora.name)?.title || lora.name;
  const shown = make("output", {}, lora.weight.toFixed(2));
  const weight = make("input", { type: "range", min: -1, max: 2, step: 0.05, aria: { label: t("weight_of", { name: title }) } });
  weight.value = lora.weight;
  weight.oninput = () => (shown.textContent = Number(weight.value).toFixed(2));
  weight.onchange = () => draft.set({ loras: draft.values.loras.map((one) => (one.name === lora.name ? { ...one, weight: Number(weight.value) } : one)) });
  const away = button(t("remove_name", { name: title }), { drawing: "close", shown: false, kind: "plain" });
  away.onclick = () => draft.set({ loras: draft.values.loras.filter((one) => one.name !== lora.name) });
  return make("div", { className: "lora" }, make("span", {}, title), weight, shown, away);
}
