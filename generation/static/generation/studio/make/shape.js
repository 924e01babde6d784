/** Shapes of pictures: a ratio of sides and a longer side make a size that the model and the plan allow. */

export const RATIOS = [
  ["1:1", 1, 1], ["4:3", 4, 3], ["3:4", 3, 4], ["3:2", 3, 2], ["2:3", 2, 3], ["16:9", 16, 9], ["9:16", 9, 16],
];
const LONGER = [256, 320, 384, 448, 512, 640, 768, 1024, 1280, 1536, 2048];
const STEP = 8;

/** Width and height of a ratio whose longer side is given. */
export function sidesOf(ratio, longer) {
  const [, wide, high] = RATIOS.find(([name]) => name === ratio) ?? RATIOS[0];
  const shorter = Math.round((longer * Math.min(wide, high)) / Math.max(wide, high) / STEP) * STEP;
  return wide >= high ? [longer, shorter] : [shorter, longer];
}

/** The longer sides that a ratio may have. `limits`: {low, high} of the model and the plan together. */
export function longerSides(ratio, { low, high }) {
  return LONGER.filter((longer) => longer <= high && Math.min(...sidesOf(ratio, longer)) >= low);
}

export function limitsOf(model, plan) {
  return { low: model?.min_side ?? 256, high: Math.min(model?.max_side ?? 1024, plan?.max_side ?? 1024) };
}

/** The ratio and the longer side of a resolution such as 512x384, as near as there are. */
export function shapeOf(resolution) {
  const [width, height] = resolution.split("x").map(Number);
  const near = ([, wide, high]) => Math.abs(Math.log((width / height) * (high / wide)));
  const [ratio] = [...RATIOS].sort((one, other) => near(one) - near(other))[0];
  return { ratio, longer: Math.max(width, height) };
}
