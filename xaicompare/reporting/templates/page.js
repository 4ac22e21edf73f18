"use strict";
// Everything here adds to a page that can be read without it: sorting, filters, charts, enlarged maps.
(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const one = (selector, within = document) => within.querySelector(selector);
  const { charts, tests } = JSON.parse(one("#data").textContent);

  // Charts: drawn in the page's colours, and told what is chosen by signals.
  const views = new Map();
  const signals = { single: "" };
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  const look = () => ({
    background: null,
    font: getComputedStyle(document.body).fontFamily,
    view: { stroke: null },
    axis: {
      labelColor: colour("--soft"), titleColor: colour("--soft"), gridColor: colour("--grid"), domainColor: colour("--line"),
      tickColor: colour("--line"), labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal",
    },
    legend: { labelColor: colour("--ink"), labelFontSize: 12, symbolOpacity: 1 },
  });

  async function draw(place) {
    const name = place.dataset.chart;
    const embedded = await vegaEmbed(place, structuredClone(charts[name]), {
      mode: "vega-lite", patch: name === "cost" ? apart : undefined, renderer: "svg", actions: false, ast: true, config: look(), tooltip: { theme: matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light" }, logLevel: 1,
    });
    views.get(name)?.finalize();
    views.set(name, embedded.view);
    if (name.startsWith("removal")) {
      // By moves alone: a curve drawn anew below a resting pointer enters and leaves it, which must change nothing.
      embedded.view.addEventListener("mousemove", (_, item) => singleOut(item?.datum?.method ?? pinned));
      place.onmouseleave = () => singleOut(pinned);
    }
    for (const select of all("select[data-signal]")) if (name.startsWith(select.dataset.charts)) await tell(name, select);
    place.dataset.drawn = "yes";
  }

  // Names beside points, where there is room for them: Vega can place them apart, Vega-Lite can't say so.
  function apart(spec) {
    const marks = Object.fromEntries(spec.marks.map((mark) => [mark.type, mark]));
    const { symbol, text } = marks;
    text.from = { data: symbol.name };
    text.encode.update = {
      text: { signal: "datum.datum.kind === 'among the best' ? datum.datum.method : ''" }, fill: { value: colour("--ink") }, fontSize: { value: 11 },
    };
    text.transform = [{
      type: "label", size: { signal: "[max(width, 40), max(height, 40)]" }, offset: [5], padding: 0, avoidMarks: [marks.rule.name],
      anchor: ["top-right", "bottom-right", "right", "top-left", "bottom-left", "left", "top", "bottom"],
    }];
    return spec;
  }

  const drawAll = () => Promise.all(all("[data-chart]").map(draw));

  const tell = (name, select) => views.get(name)?.signal(select.dataset.signal, select.value).runAsync();

  for (const select of all("select[data-signal]")) {
    const told = () => {
      for (const name of views.keys()) if (name.startsWith(select.dataset.charts)) tell(name, select);
      const word = one(`[data-told="${select.dataset.signal}"]`, select.closest("section"));
      if (word) word.textContent = select.selectedOptions[0].textContent;
      const metric = tests.metrics.find(({ name }) => name === select.value);
      if (word && metric) word.setAttribute("popovertarget", metric.about);
      if (select.dataset.charts === "ranks") one("#ranks-answer").textContent = tests.metrics.find((m) => m.name === select.value).answer;
    };
    select.addEventListener("change", told);
    told();
  }

  for (const swatch of all(".swatch")) swatch.style.background = swatch.dataset.colour;

  // One method singled out in all removal curves: by pointing at it, or kept by pressing its name.
  let pinned = "";
  function singleOut(method) {
    if (signals.single === method) return;
    signals.single = method;
    for (const [name, view] of views) if (name.startsWith("removal")) view.signal("single", method).runAsync();
  }
  for (const chip of all(".chips button")) {
    for (const kind of ["mouseenter", "focus"]) chip.addEventListener(kind, () => singleOut(chip.dataset.method));
    for (const kind of ["mouseleave", "blur"]) chip.addEventListener(kind, () => singleOut(pinned));
    chip.addEventListener("click", () => {
      pinned = pinned === chip.dataset.method ? "" : chip.dataset.method;
      for (const other of all(".chips button")) other.setAttribute("aria-pressed", String(other.dataset.method === pinned));
      singleOut(pinned);
    });
  }

  // The leaderboard.
  const board = one("#board");
  if (board) {
    const heads = all("thead th", board);
    const value = (row, place) => row.cells[place].dataset.value;
    const compare = (a, b) => (isNaN(a) || isNaN(b) ? a.localeCompare(b) : a - b);

    function sort(head) {
      const place = heads.indexOf(head);
      const button = one("button", head);
      const now = head.ariaSort;
      const next = now === "none" ? button.dataset.first : now === "ascending" ? "descending" : "ascending";
      const sign = next === "ascending" ? 1 : -1;
      const known = (row) => !["", "nan"].includes(value(row, place));
      const rows = all("tbody tr", board).sort((a, b) =>
        known(a) !== known(b) ? known(b) - known(a) : sign * compare(value(a, place), value(b, place)));
      board.tBodies[0].append(...rows);
      for (const other of heads) other.ariaSort = other === head ? next : "none";
      const how = button.dataset.name === "method" ? next : next === button.dataset.first ? "the best first" : "the worst first";
      one("#sorted").textContent = `Sorted by ${button.dataset.name}, ${how}.`;
    }
    for (const head of heads) one("button", head).addEventListener("click", () => sort(head));

    const boxes = all('input[name="column"]');
    const fits = () => { one("#board-more").hidden = board.parentElement.scrollWidth <= board.parentElement.clientWidth + 1; };
    const show = () => {
      for (const box of boxes) for (const cell of all(`[data-column="${box.value}"]`, board)) cell.hidden = !box.checked;
      if (heads.some((head) => head.hidden && head.ariaSort !== "none")) sort(heads[1]);  // never by what is hidden
      fits();
    };
    fits();
    addEventListener("resize", fits);
    for (const box of boxes) box.addEventListener("change", show);
    one("#family").addEventListener("change", ({ target }) => {
      for (const box of boxes) {
        box.checked = { all: true, overview: box.dataset.overview === "1" }[target.value] ?? box.dataset.family === target.value;
      }
      show();
    });
    one("#show-controls").addEventListener("change", ({ target }) => {
      for (const row of all("tbody tr.control", board)) row.hidden = !target.checked;
    });
  }

  // Two methods side by side.
  const chosen = [one("#one"), one("#two")];
  const short = (x) => (x === undefined ? "–" : Number(x.toPrecision(3)).toString().replace("-", "−"));
  const cell = (kind, text, classes = "") => Object.assign(document.createElement(kind), { textContent: text, className: classes });

  function compareTwo() {
    const [a, b] = chosen.map((select) => select.selectedIndex);
    const [first, second] = chosen.map((select) => select.value);
    const better = { true: { [a]: 0, [b]: 0, [-1]: 0 }, false: { [a]: 0, [b]: 0, [-1]: 0 } };
    const rows = { true: [], false: [] };
    for (const metric of tests.metrics) {
      const pair = metric.pairs.find(([i, j]) => (i === a && j === b) || (i === b && j === a));
      if (!pair) continue;
      const [i, , gap, low, high, p, winner, images] = pair;
      const [difference, from, to] = i === a ? [gap, low, high] : [-gap, -high, -low];
      better[metric.counts][winner] += 1;
      const row = document.createElement("tr");
      const name = cell("th", "");
      const term = cell("button", metric.name, "term");
      term.setAttribute("popovertarget", metric.about);
      name.scope = "row";
      name.append(term, metric.better === "high" ? " ↑" : " ↓");
      row.append(name, cell("td", short(metric.means[a]), "n"), cell("td", short(metric.means[b]), "n"),
        cell("td", `${short(difference)} (${short(from)} to ${short(to)})`, "n"),
        cell("td", p < 0.001 ? "< 0.001" : p.toPrecision(2), "n"), cell("td", images, "n"),
        cell("td", winner < 0 ? "not told apart" : tests.methods[winner], winner < 0 ? "soft" : ""));
      ["", first, second, "difference", "p", "images", "better"].forEach((label, place) => { row.cells[place].dataset.label = label; });
      rows[metric.counts].push(row);
    }
    for (const [body, counts] of [[one("#pair-counted"), true], [one("#pair-other"), false]]) {
      body.replaceChildren(body.rows[0], ...rows[counts]);
      body.hidden = !rows[counts].length;
    }
    one("#pair-one").textContent = first;
    one("#pair-two").textContent = second;
    one("#pair-answer").textContent = a === b ? "Choose two different methods." :
      `${first} is better by ${better.true[a]} of the ${rows.true.length} metrics that count, ${second} by ` +
      `${better.true[b]}; ${better.true[-1]} do not tell them apart.`;
    one("#pair-others").textContent = a === b || !rows.false.length ? "" :
      `Of the other ${rows.false.length}: ${first} by ${better.false[a]}, ${second} by ${better.false[b]}.`;
    pairMaps(first, second);
  }

  // Maps are clear where they say nothing: the photograph below them is a background, kept once for each image.
  const over = (place, example) => place.style.setProperty("--photo", `url("${one(".original img", example).src}")`);
  const ground = (where, strength) => {
    document.documentElement.dataset.ground = where;
    document.documentElement.style.setProperty("--strength", strength / 100);
    for (const select of all(".ground")) select.value = where;
    for (const range of all(".strength input")) Object.assign(range, { value: strength, disabled: where === "alone" });
  };
  const grounds = [...all(".ground"), ...all(".strength input")];
  for (const input of grounds) {
    input.addEventListener("input", ({ target }) => {
      const within = target.closest(".controls");
      ground(one(".ground", within).value, one(".strength input", within).value);
    });
  }
  if (grounds.length) ground("over", 85);
  for (const example of all(".example")) over(example, example);

  function pairMaps(...names) {
    const place = one("#pair-maps");
    if (!place) return;
    place.replaceChildren(...all(".example").map((example) => {
      const figure = document.createElement("figure");
      const pictures = document.createElement("div");
      const maps = names.map((name) => one(`li[data-method="${CSS.escape(name)}"] img`, example));
      for (const picture of [one(".original img", example), ...maps]) {
        const copy = picture && Object.assign(new Image(), { src: picture.src, alt: picture.alt });
        if (!picture) pictures.append(cell("span", "no map", "soft"));
        else if (picture.closest(".original")) pictures.append(copy);
        else {
          const layers = cell("span", "", "layers");
          layers.append(copy);
          over(layers, example);
          pictures.append(layers);
        }
      }
      const title = one("h3", example).textContent;
      figure.append(pictures, cell("figcaption", `${title}: image, ${names.join(", ")}`));
      return figure;
    }));
  }
  if (chosen[0]) {
    for (const select of chosen) select.addEventListener("change", compareTwo);
    compareTwo();
  }

  // The gallery.
  const which = one("#which");
  if (which) {
    which.addEventListener("change", () => {
      const examples = all(".example");
      for (const example of examples) example.hidden = which.value !== "all" && example.dataset.wrong !== (which.value === "wrong" ? "1" : "0");
      one("#gallery-empty").hidden = examples.some((example) => !example.hidden);
    });
    one("#gallery-controls").addEventListener("change", ({ target }) => {
      for (const item of all(".maps .control")) item.hidden = !target.checked;
    });
  }

  const dialog = one("#enlarged");
  let opener = null;

  function enlarge(button) {
    opener = button;
    const example = button.closest(".example");
    const { method } = button.closest("li").dataset;
    one("#enlarged-title").textContent = `${method}, image ${button.dataset.image}`;
    for (const [id, picture] of [["#enlarged-map", one("img", button)], ["#enlarged-input", one(".original img", example)]]) {
      Object.assign(one(id), { src: picture.src, alt: picture.alt });
    }
    over(one(".enlarged-pictures .layers"), example);
    one(".enlarged-pictures").classList.toggle("pixels", example.classList.contains("pixels"));
    const told = { ...button.dataset, classes: `${button.dataset.label}, ${button.dataset.predicted}` };
    for (const field of all("[data-field]", dialog)) field.textContent = told[field.dataset.field];
    if (!dialog.open) dialog.showModal();
  }
  function step(by) {
    const shown = all(".map").filter((button) => button.offsetParent !== null);
    const place = shown.indexOf(opener) + by;
    if (place >= 0 && place < shown.length) enlarge(shown[place]);
  }
  for (const button of all(".map")) button.addEventListener("click", () => enlarge(button));
  for (const button of all("[data-step]")) button.addEventListener("click", () => step(Number(button.dataset.step)));
  one("[data-close]").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", ({ target }) => target === dialog && dialog.close());
  dialog.addEventListener("keydown", ({ key, target }) => target.closest(".controls") || ({ ArrowLeft: () => step(-1), ArrowRight: () => step(1) })[key]?.());
  dialog.addEventListener("close", () => opener?.focus());

  // A link to a method opens its card.
  const unfold = () => {
    const variant = location.hash && document.getElementById(location.hash.slice(1));
    const card = variant && variant.closest("details.card");
    if (card) {
      card.open = true;
      variant.scrollIntoView();
    }
  };
  addEventListener("hashchange", unfold);
  unfold();

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  drawAll();
})();
