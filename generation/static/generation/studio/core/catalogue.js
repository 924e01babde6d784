/** Models, styles, LoRAs, the plan and the account: asked once when the page opens. */

import { api } from "./api.js";

export const catalogue = { models: [], styles: [], loras: [], plan: null, account: null };

export async function loadCatalogue() {
  const names = ["models", "styles", "plans", "account", "lora"];
  const [models, styles, plans, account, loras] = await Promise.all(names.map((name) => api(name)));
  const childSafe = account.profile?.child_safe_styles;
  Object.assign(catalogue, {
    models: models.items,
    styles: styles.items.filter((style) => style.child_safe || !childSafe),
    loras: newest(loras.items.filter((one) => one.state === "active")),
    plan: plans.items.find((one) => one.name === plans.current),
    account,
  });
}

/** The first of each name: the list has the newest version first. */
const newest = (items) => [...new Map([...items].reverse().map((one) => [one.name, one])).values()].reverse();

/** The models that can do a kind; the first is its default. */
export const modelsFor = (kind) => catalogue.models.filter((model) => model.kinds.includes(kind));

export const modelNamed = (name) => catalogue.models.find((model) => model.name === name || model.aliases.includes(name));

/** The address of a style's picture; styles that an admin added have none. */
export const stylePicture = (style) => new URL(`../style/${style.name}.webp`, import.meta.url).href;
