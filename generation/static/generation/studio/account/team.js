/** The team: who belongs to it, and, for its owners, what each may do. */

import { api } from "../core/api.js";
import { catalogue } from "../core/catalogue.js";
import { button, make, menu } from "../core/dom.js";
import { failure } from "../core/notice.js";
import { t } from "../core/texts.js";

const ROLES = ["owner", "member", "viewer"];

/** The part of the Account screen; empty for who belongs to no team. */
export async function teamPart() {
  const place = make("section", { className: "team" });
  const show = async () => {
    const team = await api("team");
    const rows = team.members.map((member) => memberLine(member, show));
    const heads = [t("user"), t("role"), t("actions")].map((text) => make("th", { scope: "col" }, text));
    place.hidden = !team.name;
    place.replaceChildren(make("h2", {}, `${t("team")}: ${team.name ?? ""}`), make("div", { className: "scroll" }, make("table", {}, make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...rows))),
      make("p", { className: "hint" }, t("team_help")));
  };
  await show();
  return place;
}

function memberLine(member, show) {
  const path = `team/members/${encodeURIComponent(member.user)}`;
  const change = async (method, body) => {
    try {
      await api(path, { method, body });
    } catch (error) {
      failure(error);
    }
    await show();
  };
  const name = make("td", {}, member.user, member.you ? make("small", {}, ` (${t("you")})`) : "");
  if (!catalogue.account.scopes.includes("team")) return make("tr", {}, name, make("td", {}, t(`role_${member.role}`)), make("td", {}));
  const role = menu(ROLES.map((one) => [one, t(`role_${one}`)]), member.role, (value) => change("PATCH", { role: value }));
  role.setAttribute("aria-label", t("role_of", { user: member.user }));
  const remove = button(t("remove"), { kind: "small danger", onclick: () => confirm(t("remove_sure", { user: member.user })) && change("DELETE") });
  return make("tr", {}, name, make("td", {}, role), make("td", {}, remove));
}
