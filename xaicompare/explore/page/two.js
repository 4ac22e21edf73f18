// Two networks: the same image and class, maps beside each other, and how alike they are.

import { $, Asking, h, lines, named, percent, progress, question, seconds, stack, state } from "./core.js";
import { seen } from "./side.js";

const asking = new Asking();

export const sided = true;
export const path = "two";
export const stop = () => asking.stop();
export const asked = () => question({ layer: null });
export const tools = () => [];

export async function draw() {
  const heads = h("div.pair-heads");
  const rows = h("div", { id: "pairs" });
  $("view").replaceChildren(heads, rows);
  const all = state.methods.length;
  if (!all) return progress("Choose a method.");
  let done = 0;
  progress(`0 of ${all} methods`, 0, all);
  await asking.run(async (signal) => {
    for await (const line of lines("/api/two", asked(), signal)) {
      if (line.networks) heads.replaceChildren(...line.networks.map((network, i) => head(network, line, i)));
      else {
        rows.append(row(line));
        progress(`${++done} of ${all} methods`, done, all);
      }
    }
    progress("");
  });
}

function head(network, line, i) {
  const best = network.top[0];
  return h("div", {}, h("h3", {}, network.title), h("p.told", {}, "It says ", h("b", {}, best.name), ` with ${percent(best.probability)}; `, h("b", {}, named(line.target)), ` has ${percent(line.probabilities[i])}.`));
}

function row(line) {
  if (line.error) return h("section.rule", {}, h("h3", {}, line.title), h("p.reason", {}, line.error));
  return h("section.rule.twins", { "data-method": line.method }, h("h3", {}, line.title),
    h("p.agreement", {}, "Agreement: ranks ", h("b", {}, line.spearman.toFixed(2).replace("-", "−")), ", structure ", h("b", {}, line.ssim.toFixed(2).replace("-", "−"))),
    h("div.sheet.two", {}, line.maps.map((each, i) => h("figure.card", {}, stack(seen.picture, each.map, `${line.title}, network ${i + 1}`), h("figcaption", {}, h("span", {}, `${seconds(each.seconds)}${each.incompleteness === null ? "" : `, sum off by ${percent(each.incompleteness)}`}`))))));
}
