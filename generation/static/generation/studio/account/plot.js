/** Bars of one number by day, drawn as SVG; the same numbers are a table for who can't see them. */

import { make } from "../core/dom.js";
import { dayText, numberText, t } from "../core/texts.js";

const WIDTH = 640, HEIGHT = 140, FOOT = 2;

function svg(name, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** `days`: [{day: "2026-11-20", value}] in order. */
export function barPlot(title, days) {
  const most = Math.max(1, ...days.map(({ value }) => value));
  const step = WIDTH / days.length;
  const bars = days.map(({ day, value }, at) => {
    const high = value ? Math.max(2, (value / most) * (HEIGHT - FOOT)) : 0;
    const bar = svg("rect", { x: at * step + step * 0.1, y: HEIGHT - FOOT - high, width: step * 0.8, height: high, rx: 2, class: "bar" });
    bar.append(svg("title", {}, `${dayText(day)}: ${numberText(value)}`));
    return bar;
  });
  const labels = [0, Math.floor(days.length / 2), days.length - 1].map((at) => make("span", {}, days[at].day.slice(5)));
  const line = svg("line", { x1: 0, x2: WIDTH, y1: HEIGHT - FOOT, y2: HEIGHT - FOOT, class: "axis" });
  const plot = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": title }, line, ...bars);
  return make("figure", { className: "plot" }, make("figcaption", {}, title, make("b", {}, t("most", { n: numberText(most) }))), plot, make("div", { className: "labels", aria: { hidden: "true" } }, ...labels));
}
