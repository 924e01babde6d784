/** The Account screen: what is left of today, what was used, keys. */

import { api, onceKey, request, save } from "../core/api.js";
import { csvOf } from "../batch/csv.js";
import { catalogue } from "../core/catalogue.js";
import { button, field, make, menu, styleSheet } from "../core/dom.js";
import { failure, notice } from "../core/notice.js";
import { momentText, numberText, t } from "../core/texts.js";
import { factorPart } from "./factor.js";
import { barPlot } from "./plot.js";
import { teamPart } from "./team.js";

const SHOWN_DAYS = 30;
const SCOPES = ["generate", "read", "sort", "delete", "lora", "keys", "webhooks", "team"];

export async function accountScreen() {
  await styleSheet(new URL("account.css", import.meta.url));
  const screen = make("div", { className: "account" });
  const fill = async () => {
    try {
      const parts = await Promise.all([standing(), used(), teamPart(), factorPart(), keyPart()]);
      screen.replaceChildren(...parts.filter(Boolean));
    } catch (error) {
      failure(error);
    }
  };
  screen.addEventListener("shown", fill);
  return screen;
}

async function standing() {
  const account = await api("account");
  const facts = [[t("user"), account.user], [t("team"), account.team ?? "–"], [t("plan"), account.plan], [t("this_key"), `igx_${account.key}_…`]];
  const list = make("dl", {}, ...facts.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
  const bars = account.quotas.map(({ name, limit, left }) => {
    const text = t("quota_left", { left: numberText(left), limit: numberText(limit) });
    const bar = make("meter", { min: 0, max: limit, value: limit - left, high: limit * 0.9, low: limit * 0.7, optimum: 0, aria: { label: `${t(`quota_${name}`)}: ${text}` } });
    return make("div", { className: "quota" }, make("div", { className: "spread" }, make("b", {}, t(`quota_${name}`)), make("span", { className: "hint" }, text)), bar);
  });
  const none = account.quotas.length ? [] : [make("p", { className: "hint" }, t("no_limits"))];
  return make("section", {}, make("h1", {}, t("account")), list, ...bars, ...none, childrenPart(account));
}

function childrenPart(account) {
  if (account.profile) return make("p", {}, make("a", { href: "/kids" }, t("kids")));
  if (!account.scopes.includes("keys")) return "";
  const open = button(t("open_kids"), { drawing: "sun", onclick: () => openForChildren().catch(failure) });
  return make("div", { className: "note" }, make("b", {}, t("kids")), make("p", { className: "hint" }, t("kids_help")), open);
}

/** This browser becomes a child's: its session is bound to a new key with the child-safe profile. */
async function openForChildren() {
  const asked = { name: t("kids"), profile: "child-safe", scopes: ["generate", "read"], expires_in_days: 30 };
  const made = await api("keys", { method: "POST", body: asked, headers: onceKey() });
  const begun = await request("/session", { method: "POST", body: { key: made.api_key } });
  await begun.text();
  location.href = "/kids";
}

const dayBefore = (days) => new Date(Date.now() - days * 86_400_000).toISOString().slice(0, 10);

async function used() {
  const since = dayBefore(SHOWN_DAYS - 1);
  const [byDay, byModel, byKey] = await Promise.all(["day", "model", "key"].map((group) => api(`usage?group_by=${group}&since=${since}`)));
  const known = new Map(byDay.items.map((line) => [line.group, line]));
  const days = Array.from({ length: SHOWN_DAYS }, (_, at) => dayBefore(SHOWN_DAYS - 1 - at));
  const plot = barPlot(t("pictures_by_day"), days.map((day) => ({ day, value: known.get(day)?.images ?? 0 })));
  const { total } = byDay;
  const sums = make("p", {}, t("used_total", { tasks: numberText(total.tasks), images: numberText(total.images), work: numberText(total.megapixel_steps) }));
  return make("section", {}, make("h2", {}, t("usage")), sums, plot,
    make("div", { className: "tables" }, table(t("model"), byModel.items), table(t("key"), byKey.items)), bill());
}

function table(title, items) {
  const rows = items.map((line) => make("tr", {}, make("td", {}, line.group || "–"), ...["tasks", "images", "megapixel_steps"].map((name) => make("td", { className: "number" }, numberText(line[name])))));
  const heads = [title, t("tasks"), t("pictures_title"), t("work")].map((text, at) => make("th", { scope: "col", className: at ? "number" : "" }, text));
  return make("div", { className: "scroll" }, make("table", {}, make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...rows)));
}

/** A month's usage as CSV. */
function bill() {
  const now = new Date();
  const months = Array.from({ length: 12 }, (_, back) => new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() - back, 1)).toISOString().slice(0, 7));
  const month = menu(months.map((one) => [one, one]), months[0], () => undefined);
  month.setAttribute("aria-label", t("month"));
  const get = async () => {
    const [year, number] = month.value.split("-").map(Number);
    const last = new Date(Date.UTC(year, number, 0)).toISOString().slice(0, 10);
    const { items } = await api(`usage?group_by=day&since=${month.value}-01&until=${last}`);
    const rows = items.map((line) => [line.group, line.tasks, line.succeeded, line.images, line.megapixel_steps]);
    save(new Blob(["\uFEFF", csvOf(["day", "tasks", "succeeded", "images", "megapixel_steps"], rows)], { type: "text/csv" }), `usage-${month.value}.csv`);
  };
  return make("div", { className: "row bill" }, month, button(t("download_csv"), { drawing: "download", onclick: () => get().catch(failure) }));
}

async function keyPart() {
  const place = make("section", {}, make("h2", {}, t("keys")));
  if (!catalogue.account.scopes.includes("keys")) {
    place.append(make("p", { className: "hint" }, t("no_key_scope")));
    return place;
  }
  const secret = make("div", { className: "secret", hidden: true, aria: { live: "polite" } });
  const rows = make("tbody", {});
  const load = async () => {
    const { items } = await api("keys");
    rows.replaceChildren(...items.map((key) => keyLine(key, { load, secret })));
  };
  const heads = [t("name"), t("key"), t("may"), t("last_used"), t("ends"), t("actions")].map((text) => make("th", { scope: "col" }, text));
  place.append(newKey({ load, secret }), secret, make("div", { className: "scroll" }, make("table", {}, make("thead", {}, make("tr", {}, ...heads)), rows)));
  await load();
  return place;
}

function newKey({ load, secret }) {
  const name = make("input", { maxLength: 100, required: true, placeholder: t("key_name_example") });
  const days = make("input", { type: "number", min: 1, max: 3650, placeholder: t("never") });
  const scopes = SCOPES.filter((scope) => catalogue.account.scopes.includes(scope)).map((scope) => make("input", { type: "checkbox", value: scope, checked: ["generate", "read", "sort"].includes(scope) }));
  const child = make("input", { type: "checkbox" });
  const boxes = scopes.map((box) => make("label", { className: "check" }, box, make("span", {}, t(`scope_${box.value}`))));
  const send = async (event) => {
    event.preventDefault();
    const body = { name: name.value, scopes: scopes.filter((box) => box.checked).map((box) => box.value) };
    if (days.value) body.expires_in_days = Number(days.value);
    if (child.checked) body.profile = "child-safe";
    try {
      showSecret(secret, await api("keys", { method: "POST", body, headers: onceKey() }));
      name.value = "";
      await load();
    } catch (error) {
      failure(error);
    }
  };
  const create = button(t("create_key"), { drawing: "plus", kind: "primary", type: "submit" });
  const bounded = catalogue.account.profile ? "" : make("label", { className: "check" }, child, make("span", {}, t("child_safe")));
  return make("form", { className: "new-key", onsubmit: send }, field(t("name"), name), field(t("ends_in_days"), days),
    make("fieldset", {}, make("legend", {}, t("may")), make("div", { className: "row boxes" }, ...boxes, bounded)), create);
}

function showSecret(place, made) {
  const copy = button(t("copy"), { kind: "small", onclick: () => navigator.clipboard?.writeText(made.api_key).then(() => notice(t("copied"))) });
  place.replaceChildren(make("b", {}, t("shown_once")), make("code", {}, made.api_key), copy);
  place.hidden = false;
}

function keyLine(key, { load, secret }) {
  const dead = key.revoked_at || (key.expires_at && new Date(key.expires_at) < new Date());
  const own = key.prefix === catalogue.account.key;
  const work = (what) => async () => {
    try {
      await what();
      await load();
    } catch (error) {
      failure(error);
    }
  };
  const rotate = button(t("rotate"), { kind: "small", onclick: work(async () => showSecret(secret, await api(`keys/${key.prefix}/rotate`, { method: "POST", body: {}, headers: onceKey() }))) });
  const revoke = button(t("revoke"), { kind: "small danger" });
  revoke.onclick = work(async () => {
    if (confirm(t("revoke_sure", { name: key.name }))) await api(`keys/${key.prefix}`, { method: "DELETE" });
  });
  const ends = key.revoked_at ? t("revoked") : key.expires_at ? momentText(key.expires_at) : t("never");
  const may = [key.scopes.length ? key.scopes.map((scope) => t(`scope_${scope}`)).join(", ") : t("everything"), key.profile].filter(Boolean).join(" · ");
  return make("tr", { className: dead ? "dead" : "" }, make("td", {}, key.name, own ? make("small", {}, ` (${t("this_key")})`) : ""), make("td", {}, make("code", {}, key.prefix)),
    make("td", {}, may), make("td", {}, key.last_used_at ? momentText(key.last_used_at) : "–"), make("td", {}, ends),
    make("td", { className: "row" }, ...(dead ? [] : [rotate, revoke])));
}
