/** What children choose from: the words of a prompt in both languages. All name subjects of the child-safe profile. */

export const SUBJECTS = [
  ["bear", "小熊"], ["cat", "小猫"], ["rabbit", "小兔子"], ["fish", "小鱼"], ["house", "房子"], ["car", "小汽车"],
  ["tree", "树"], ["flower", "小花"], ["star", "星星"],
];
export const COLOURS = [
  ["red", "红色", "#e23b3b"], ["orange", "橙色", "#f08a24"], ["yellow", "黄色", "#f6cf3c"], ["green", "绿色", "#3da653"],
  ["blue", "蓝色", "#3a6ee0"], ["purple", "紫色", "#8b46c9"], ["pink", "粉色", "#f28cb6"], ["brown", "棕色", "#8d5a34"],
];
export const HATTED = ["bear", "cat", "rabbit"];

/** The prompt of what was chosen, in the page's language. */
export function promptOf({ subject, colour, ground, hat }, language) {
  const of = (list, name) => list.find(([one]) => one === name)?.[language === "zh" ? 1 : 0];
  const wears = HATTED.includes(subject) && hat;
  if (language === "zh") {
    const dressed = wears ? `，戴着${of(COLOURS, hat)}帽子` : "";
    return `一个${of(COLOURS, colour)}的${of(SUBJECTS, subject)}${dressed}，${of(COLOURS, ground)}背景`;
  }
  const dressed = wears ? ` wearing a ${hat} hat` : "";
  return `a ${colour} ${subject}${dressed} on a ${ground} background`;
}
