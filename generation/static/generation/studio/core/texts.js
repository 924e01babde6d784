/** The page's words in the language that the server chose for this browser (cookie, else Accept-Language). */

export const language = document.documentElement.lang.startsWith("zh") ? "zh" : "en";
const words = (await import(`../texts/${language}.js`)).default;

export const has = (name) => name in words;

/** A text by its name, with {values} filled in; `n` chooses between the forms "one|more". */
export function t(name, values = {}) {
  const text = words[name] ?? name;
  const forms = text.split("|");
  const chosen = forms.length > 1 ? forms[values.n === 1 ? 0 : 1] : text;
  return chosen.replace(/\{(\w+)\}/g, (whole, key) => values[key] ?? whole);
}

/** The title of a style or a model in the page's language. */
export const titleOf = (row) => (language === "zh" && row.title_zh) || row.title || row.name;

export const dayText = (text) => new Date(text).toLocaleDateString(document.documentElement.lang, { dateStyle: "medium" });
export const momentText = (text) =>
  new Date(text).toLocaleString(document.documentElement.lang, { dateStyle: "medium", timeStyle: "short" });
export const numberText = (number) => number.toLocaleString(document.documentElement.lang, { maximumFractionDigits: 2 });

/** Seconds as people say them. */
export function secondsText(seconds) {
  if (seconds < 1) return t("under_a_second");
  return seconds < 90 ? t("seconds", { n: Math.ceil(seconds) }) : t("minutes", { n: Math.ceil(seconds / 60) });
}

/** Fills the texts of the server's part of the page. */
export function fillTexts(root = document) {
  for (const element of root.querySelectorAll("[data-text]")) element.textContent = t(element.dataset.text);
  for (const element of root.querySelectorAll("[data-label]")) element.setAttribute("aria-label", t(element.dataset.label));
}

/** The other language, from the next page on: the same cookie that the admin reads. */
export function switchLanguage() {
  const next = language === "zh" ? "en" : "zh-hans";
  document.cookie = `django_language=${next}; path=/; max-age=31536000; samesite=lax`;
  location.reload();
}
