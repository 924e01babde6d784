/** Which words of a prompt a model does not know, where the model says what it knows. */

const ENGLISH = /[a-z][a-z'-]*/g;
const SHORTEST = 4; // letters; shorter words are mostly grammar
const CHINESE = /[\u4e00-\u9fff]+/g;

/** The words, in their order, each once. `known`: the model's words, or null when it knows too many to name. */
export function unknownWords(text, known) {
  if (!known) return [];
  const words = new Set(known);
  const longest = Math.max(1, ...known.map((word) => word.length));
  const english = [...text.toLowerCase().matchAll(ENGLISH)].map(([word]) => word).filter((word) => word.length >= SHORTEST);
  const strange = english.filter((word) => !words.has(word) && !words.has(word.replace(/(es|s)$/, "")));
  const reads = known.some((word) => /[\u4e00-\u9fff]/.test(word)); // else nothing is said of Chinese
  const chinese = !reads ? [] : [...text.matchAll(CHINESE)].flatMap(([run]) => unreadRuns(run, words, longest));
  return [...new Set([...strange, ...chinese])];
}

/** What is left of a run of Chinese characters when the longest known words are taken out of it, from left to right. */
function unreadRuns(run, words, longest) {
  const left = [];
  let open = "";
  for (let at = 0; at < run.length; ) {
    let length = Math.min(longest, run.length - at);
    while (length > 0 && !words.has(run.slice(at, at + length))) length -= 1;
    if (length) {
      if (open) left.push(open);
      open = "";
    } else open += run[at];
    at += length || 1;
  }
  return open ? [...left, open] : left;
}

/** Known words that begin as the last word of the text does, for suggestions. */
export function completions(text, known, most = 6) {
  const begun = text.match(/([a-z]{2,}|[\u4e00-\u9fff])$/i)?.[0].toLowerCase();
  if (!begun || !known) return [];
  return known.filter((word) => word.startsWith(begun) && word !== begun).slice(0, most).map((word) => word.slice(begun.length));
}
