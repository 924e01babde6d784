/** The second factor of who is signed in with the account: an authenticator app and recovery codes. */

import { request, save } from "../core/api.js";
import { button, field, make } from "../core/dom.js";
import { failure, notice } from "../core/notice.js";
import { t } from "../core/texts.js";

const call = async (method, body) => {
  const answer = await request("/session/factor", { method, body });
  return answer.status === 204 ? null : (await answer.json()).data;
};

/** The part of the Account screen; empty for a browser that came with a key. */
export async function factorPart() {
  if (document.body.dataset.account !== "yes") return "";
  const place = make("section", { className: "factor" });
  const show = async () => {
    const state = await call("GET");
    place.replaceChildren(make("h2", {}, t("second_factor")), ...(state.on ? whenOn(state, show) : whenOff(place, show)));
  };
  await show();
  return place;
}

/** A form of one field; `work` gets what was typed. */
function ask(text, input, action, work) {
  const go = async (event) => {
    event.preventDefault();
    try {
      await work(input.value.trim());
    } catch (error) {
      failure(error);
    }
  };
  return make("form", { className: "ask", onsubmit: go }, field(text, input), button(action, { kind: "primary", type: "submit" }));
}

const codeInput = () => make("input", { autocomplete: "one-time-code", required: true, maxLength: 20, spellcheck: false });

function whenOff(place, show) {
  const password = make("input", { type: "password", autocomplete: "current-password", required: true });
  const begin = async (typed) => place.replaceChildren(make("h2", {}, t("second_factor")), ...setUp(await call("POST", { password: typed }), place, show));
  return [make("p", {}, t("factor_off")), ask(t("password"), password, t("factor_begin"), begin)];
}

function setUp({ secret, qr }, place, show) {
  const confirm = async (code) => place.replaceChildren(make("h2", {}, t("second_factor")), ...recoveryCodes((await call("PUT", { code })).recovery_codes, show));
  return [
    make("p", {}, t("factor_scan")),
    make("div", { className: "scan" }, make("img", { src: qr, alt: t("qr_code") }), make("code", {}, secret.match(/.{1,4}/g).join(" "))),
    ask(t("code"), codeInput(), t("factor_confirm"), confirm),
  ];
}

function recoveryCodes(codes, show) {
  const text = codes.join("\n");
  const keep = button(t("download"), { drawing: "download", kind: "small", onclick: () => save(new Blob([text], { type: "text/plain" }), "recovery-codes.txt") });
  const copy = button(t("copy"), { kind: "small", onclick: () => navigator.clipboard?.writeText(text).then(() => notice(t("copied"))) });
  return [
    make("p", {}, t("recovery_shown_once")),
    make("ol", { className: "recovery" }, ...codes.map((code) => make("li", {}, make("code", {}, code)))),
    make("div", { className: "row" }, keep, copy, button(t("done"), { kind: "small primary", onclick: () => show().catch(failure) })),
  ];
}

function whenOn({ codes_left: left }, show) {
  const off = async (code) => {
    await call("DELETE", { code });
    await show();
  };
  return [make("p", {}, t("factor_on", { n: left })), ask(t("code"), codeInput(), t("factor_end"), off)];
}
