/** Who is here: the account (with the code of its second factor), the identity provider, or an API key. */

import { request } from "../core/api.js";
import { button, field, make } from "../core/dom.js";
import { t } from "../core/texts.js";

/** Fills the place with the ways in; `entered` is called when one of them was taken. */
export function openGate(place, entered) {
  const { session, provider } = document.body.dataset;
  const form = session === "code" ? codeForm(entered) : accountForm(entered);
  const others = session === "code" ? [] : [provider ? providerLink(provider) : null, keyForm(entered)];
  place.replaceChildren(make("div", { className: "gate" }, make("h1", {}, t("welcome")), make("p", {}, t("welcome_text")), form, ...others.filter(Boolean)));
  place.querySelector("input").focus();
}

/** Sends what was typed; the words of a refusal go below the form. */
async function send(body, said, entered, onfault = () => false) {
  said.textContent = "";
  try {
    const answer = await (await request("/session", { method: "POST", body })).json();
    Object.assign(document.body.dataset, { session: "yes", account: answer.data.account ? "yes" : "no" });
  } catch (error) {
    if (!onfault(error)) said.textContent = refusal(error);
    return;
  }
  await entered();
}

function refusal(error) {
  const code = error.faults[0]?.code;
  if (code === "code_needed") return t("code_needed");
  if (code === "wrong_code") return t("wrong_code");
  return error.status === 401 ? t("bad_login") : error.message;
}

const alertLine = () => make("p", { className: "bad", attributes: { role: "alert" } });
const submit = (text) => button(text, { kind: "primary", type: "submit" });

function accountForm(entered) {
  const name = make("input", { name: "username", autocomplete: "username", required: true, autocapitalize: "none", spellcheck: false });
  const password = make("input", { name: "password", type: "password", autocomplete: "current-password", required: true });
  const code = codeInput();
  const ask = Object.assign(field(t("code"), code, { hint: t("code_hint") }), { hidden: true });
  const said = alertLine();
  const needed = (error) => {
    if (error.faults[0]?.code !== "code_needed") return false;
    ask.hidden = false;
    code.focus();
    return true;
  };
  const go = (event) => {
    event.preventDefault();
    const typed = code.value.trim() ? { code: code.value.trim() } : {};
    return send({ username: name.value, password: password.value, ...typed }, said, entered, needed);
  };
  return make("form", { id: "login-account", onsubmit: go }, field(t("user_name"), name), field(t("password"), password), ask, submit(t("login")), said);
}

function codeForm(entered) {
  const code = codeInput(), said = alertLine();
  const go = (event) => {
    event.preventDefault();
    return send({ code: code.value.trim() }, said, entered);
  };
  return make("form", { id: "login-code", onsubmit: go }, field(t("code"), code, { hint: t("code_hint") }), submit(t("login")), said);
}

const codeInput = () => make("input", { name: "code", autocomplete: "one-time-code", inputMode: "text", maxLength: 20, spellcheck: false, autocapitalize: "none" });

function providerLink(name) {
  return make("a", { className: "button", href: "/accounts/oidc/" }, t("login_with", { name }));
}

function keyForm(entered) {
  const key = make("input", { id: "key", name: "key", type: "password", autocomplete: "off", placeholder: "igx_…", required: true });
  const said = alertLine();
  const go = async (event) => {
    event.preventDefault();
    await send({ key: key.value.trim() }, said, entered, (error) => error.status === 401 && ((said.textContent = t("bad_key")), true));
  };
  const form = make("form", { id: "login", onsubmit: go }, field(t("key"), key, { hint: t("key_help") }), submit(t("login")), said);
  return make("details", { className: "with-key" }, make("summary", {}, t("with_key")), form);
}
