/** Prompts with choices: "a {red|blue} {cat|dog}" stands for four prompts. */

/** Every prompt that a text stands for, up to `most`; an unclosed brace is a brace. */
export function expand(text, most = 100) {
  const parts = [...text.matchAll(/\{([^{}]*)\}|[^{}]+|[{}]/g)].map(([whole, inner]) =>
    inner !== undefined && inner.includes("|") ? inner.split("|").map((one) => one.trim()) : [whole],
  );
  let found = [""];
  for (const choices of parts) {
    found = found.flatMap((start) => choices.map((choice) => start + choice)).slice(0, most);
  }
  return [...new Set(found.map((one) => one.replace(/\s+/g, " ").trim()))];
}
