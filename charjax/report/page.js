// The charts and coloured texts of a report, drawn from the JSON in the page.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const tip = byId("tip");
  const SVG = "http://www.w3.org/2000/svg";
  const color = (number) => `var(--s${number % 8})`;

  // Builds elements. Text is always set as text, never as markup.

  function element(name, attributes = {}, ...children) {
    const node = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...children);
    return node;
  }

  function shape(parent, name, attributes = {}, text) {
    const node = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    parent.append(node);
    return node;
  }

  function showTip(x, y, ...children) {
    tip.replaceChildren(...children);
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    const room = { x: document.documentElement.clientWidth, y: innerHeight };
    const left = x + 16 + box.width > room.x ? x - 16 - box.width : x + 16;
    const top = y + 18 + box.height > room.y ? y - 14 - box.height : y + 18;
    tip.style.left = `${Math.max(6, Math.min(left, room.x - box.width - 6))}px`;
    tip.style.top = `${Math.max(6, top)}px`;
  }

  const hideTip = () => { tip.hidden = true; };

  function rows(head, pairs) {
    const table = element("table");
    for (const [name, value, series] of pairs) {
      const key = series === undefined ? "" : element("span", { class: "key" });
      if (key) key.style.setProperty("--c", series);
      table.append(element("tr", {}, element("td", {}, key, name), element("td", {}, value)));
    }
    return [element("div", { class: "head" }, head), table];
  }

  function ticks(low, high, count) {
    const rough = (high - low) / Math.max(count, 1) || 1;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 5, 10].find((m) => m * power >= rough);
    const found = [];
    for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++)
      found.push(+(k * step).toPrecision(12));
    return found;
  }

  function logTicks(low, high) {
    const found = [];
    for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); e++)
      for (const m of [1, 2, 5]) if (m * 10 ** e >= low && m * 10 ** e <= high)
        found.push(+(m * 10 ** e).toPrecision(3));
    const tens = found.filter((v) => Number.isInteger(+Math.log10(v).toFixed(9)));
    return found.length > 6 && tens.length > 1 ? tens : found;
  }

  const short = (v) => v === 0 ? "0"
    : Math.abs(v) < 1e-3 || Math.abs(v) >= 1e5 ? v.toExponential(Math.abs(v) < 1e-3 ? 1 : 0)
      .replace(".0e", "e") : String(+v.toPrecision(4));

  // Draws a line chart. Charts in the same `group` share the cursor.

  function lineChart(place, options) {
    const box = byId(place);
    if (!box) return;
    box.classList.add("chart");
    const group = options.group || [];
    group.push({ draw, point });
    let state = null;

    function draw() {
      const width = box.clientWidth || 600;
      const height = options.height;
      const margin = { left: 52, right: 16, top: 30, bottom: options.xName ? 40 : 12 };
      box.replaceChildren();
      const svg = shape(box, "svg", { height, viewBox: `0 0 ${width} ${height}`,
        role: "img", "aria-label": options.title });
      const all = options.series.flatMap((s) => s.points);
      const xs = all.map((p) => p[0]);
      const x0 = 0, x1 = options.end || xs.reduce((a, b) => Math.max(a, b), 1e-9);
      const [y0, y1] = options.range;
      const log = options.log;
      const f = log ? Math.log : (v) => v;
      const x = (v) => margin.left + (v - x0) / (x1 - x0) * (width - margin.left - margin.right);
      const y = (v) => height - margin.bottom
        - (f(v) - f(y0)) / (f(y1) - f(y0) || 1) * (height - margin.top - margin.bottom);
      const clip = `clip-${place}`;
      shape(shape(shape(svg, "defs"), "clipPath", { id: clip }), "rect", {
        x: margin.left - 6, y: margin.top - 6, width: width - margin.left - margin.right + 12,
        height: height - margin.top - margin.bottom + 8 });

      shape(svg, "text", { x: 0, y: 14, class: "title" }, options.title);
      legend(svg, width);
      const yTicks = log ? logTicks(y0, y1) : ticks(y0, y1, height > 200 ? 5 : 3);
      for (const v of yTicks) {
        shape(svg, "line", { class: "grid", x1: margin.left, x2: width - margin.right,
          y1: y(v), y2: y(v) });
        shape(svg, "text", { x: margin.left - 8, y: y(v) + 4, "text-anchor": "end" }, short(v));
      }
      shape(svg, "line", { class: "axis", x1: margin.left, x2: width - margin.right,
        y1: height - margin.bottom, y2: height - margin.bottom });
      if (options.xName) {
        for (const v of ticks(x0, x1, width < 500 ? 4 : 8))
          shape(svg, "text", { x: x(v), y: height - margin.bottom + 17,
            "text-anchor": "middle" }, short(v));
        shape(svg, "text", { x: (margin.left + width - margin.right) / 2, y: height - 4,
          "text-anchor": "middle" }, options.xName);
      }
      for (const { value, label, left } of options.references || []) {
        if (value < y0 || value > y1) continue;
        shape(svg, "line", { class: "reference", x1: margin.left, x2: width - margin.right,
          y1: y(value), y2: y(value) });
        shape(svg, "text", { class: "label", y: y(value) - 6,
          x: left ? margin.left + 4 : width - margin.right,
          "text-anchor": left ? "start" : "end" }, label);
      }
      const lines = shape(svg, "g", { "clip-path": `url(#${clip})` });
      for (const s of options.series) {
        if (!s.points.length) continue;
        const d = s.points.map(([a, b], i) =>
          `${i ? "L" : "M"}${x(a).toFixed(1)} ${y(Math.max(b, log ? y0 / 10 : b)).toFixed(1)}`);
        shape(lines, "path", { class: "line", d: d.join(""), stroke: s.color,
          "stroke-width": s.width || 1.8, opacity: s.opacity || 1 });
        if (s.dots && s.points.length < width / 9)
          for (const [a, b] of s.points)
            shape(lines, "circle", { cx: x(a), cy: y(b), r: 2.6, fill: s.color });
      }
      if (options.best && options.best[1] !== null) {
        const [a, b] = options.best;
        shape(svg, "circle", { class: "best", cx: x(a), cy: y(b), r: 6.5, fill: "none",
          stroke: "var(--best)", "stroke-width": 2 });
        const end = x(a) > width * 0.6;
        shape(svg, "text", { class: "label", x: x(a) + (end ? -2 : 2), y: y(b) - 13,
          "text-anchor": end ? "end" : "start", style: "fill:var(--best);font-weight:600" },
        `best ${b.toFixed(4)}`);
      }
      const cursor = shape(svg, "line", { class: "cursor", y1: margin.top,
        y2: height - margin.bottom, visibility: "hidden" });
      const marks = options.series.map((s) => shape(svg, "circle", { r: 3.5, fill: s.color,
        stroke: "var(--paper)", "stroke-width": 1.5, visibility: "hidden" }));
      state = { svg, x, y, x0, x1, margin, width, cursor, marks };
      svg.addEventListener("pointermove", follow);
      svg.addEventListener("pointerdown", follow);
      svg.addEventListener("pointerleave", () => {
        hideTip();
        for (const chart of group) chart.point(null);
      });
    }

    function legend(svg, width) {
      const named = options.series.filter((s) => s.name && !s.silent);
      if (named.length < 2 || named.length > 6) return;
      let right = width - 16;
      for (const s of [...named].reverse()) {
        const label = shape(svg, "text", { x: right, y: 14, "text-anchor": "end" }, s.name);
        right -= (label.getComputedTextLength ? label.getComputedTextLength() : 60) + 8;
        shape(svg, "rect", { x: right - 14, y: 8, width: 14, height: 3, rx: 1.5, fill: s.color });
        right -= 30;
      }
    }

    const nearest = (points, value) => points.reduce((best, p) =>
      !best || Math.abs(p[0] - value) < Math.abs(best[0] - value) ? p : best, null);

    // Moves the cursor of this chart to a place on the axis and returns the values there.
    function point(value) {
      if (!state) return [];
      const shown = value !== null;
      state.cursor.setAttribute("visibility", shown ? "visible" : "hidden");
      if (shown) for (const end of ["x1", "x2"]) state.cursor.setAttribute(end, state.x(value));
      return options.series.map((s, i) => {
        const at = shown ? nearest(s.points, value) : null;
        const far = at && Math.abs(at[0] - value) > (state.x1 - state.x0) / 4;
        const inside = at && !far && at[1] >= options.range[0] && at[1] <= options.range[1];
        state.marks[i].setAttribute("visibility", inside ? "visible" : "hidden");
        if (inside) {
          state.marks[i].setAttribute("cx", state.x(at[0]));
          state.marks[i].setAttribute("cy", state.y(at[1]));
        }
        return at && !far ? [s.name, options.read(at[1]), s.color] : null;
      }).filter(Boolean);
    }

    function follow(event) {
      const frame = state.svg.getBoundingClientRect();
      const share = (event.clientX - frame.left - state.margin.left)
        / (state.width - state.margin.left - state.margin.right);
      const value = state.x0 + Math.min(1, Math.max(0, share)) * (state.x1 - state.x0);
      const pairs = group.flatMap((chart) => chart.point(value));
      showTip(event.clientX, event.clientY,
        ...rows(`${options.unit} ${short(+value.toPrecision(3))}`, pairs));
    }

    draw();
    let before = box.clientWidth;
    new ResizeObserver(() => {
      if (box.clientWidth !== before) { before = box.clientWidth; draw(); }
    }).observe(box);
  }

  const zip = (xs, ys) => xs.map((x, i) => [x, ys[i]]);
  const values = (series) => series.flatMap((s) => s.points.map((p) => p[1]));
  const least = (list) => list.reduce((a, b) => Math.min(a, b), Infinity);
  const most = (list) => list.reduce((a, b) => Math.max(a, b), -Infinity);

  // Returns the range of losses to show. It leaves out the first 6% of the run, whose
  // steep fall would flatten the rest of the curve.
  function lossRange(series, extra) {
    const end = most(series.flatMap((s) => s.points.map((p) => p[0])));
    const later = series.flatMap((s) => s.points.filter((p) => p[0] >= end * 0.06)
      .map((p) => p[1]));
    const all = [...(later.length ? later : values(series)), ...extra];
    const low = least(all), high = most(all), pad = (high - low || 0.1) * 0.07;
    return [Math.max(0, low - pad), high + pad];
  }

  function logRange(list) {
    const positive = list.filter((v) => v > 0);
    if (!positive.length) return [0.1, 1];
    const low = Math.max(least(positive), most(positive) / 1e5), high = most(positive);
    return [low / 1.25, high * 1.25];
  }

  function drawCurves({ curves, best }) {
    const { train, val } = curves;
    const measured = curves.of === "val";
    const group = [];
    const losses = [{ name: "training", color: "var(--s1)", points: zip(train.epoch, train.loss) }];
    if (measured) losses.push({ name: "validation", color: "var(--s0)", dots: true,
      width: 2.2, points: zip(val.epoch, val.loss) });
    const ngram = curves.ngram;
    const references = ngram ? [{ value: ngram.loss, left: true,
      label: `${ngram.order}-gram ${ngram.loss.toFixed(3)}` }] : [];
    const end = most(losses.flatMap((s) => s.points.map((p) => p[0])));
    const extra = [...references.map((r) => r.value), ...(best[1] === null ? [] : [best[1]])];
    lineChart("loss", { title: "loss, nats a character", unit: "epoch", height: 330, group, end,
      series: losses, references, best, range: lossRange(losses, extra),
      read: (v) => `${v.toFixed(4)} · ${(v / Math.LN2).toFixed(3)} bits` });
    if (!train.loss.length) return;
    const rate = [{ name: "learning rate", color: "var(--s2)",
      points: zip(train.epoch, train.learning_rate) }];
    lineChart("rate", { title: "learning rate", unit: "epoch", height: 120, group, end,
      series: rate, range: [0, most(values(rate)) * 1.08 || 1], read: (v) => v.toExponential(2) });
    const norm = [
      { name: "highest", silent: true, color: "var(--s3)", width: 1, opacity: 0.35,
        points: zip(train.epoch, train.grad_norm_max) },
      { name: "gradient norm", color: "var(--s3)", points: zip(train.epoch, train.grad_norm) }];
    const same = train.grad_norm.every((v, i) => v === train.grad_norm_max[i]);
    const clip = curves.clip_norm;
    lineChart("norm", { title: "gradient norm", unit: "epoch", xName: "epochs", height: 160,
      group, end, series: same ? norm.slice(1) : norm, log: true,
      references: clip ? [{ value: clip, label: `clipped at ${short(clip)}` }] : [],
      range: logRange(values(norm)), read: (v) => v.toPrecision(3) });
  }

  // Fills a box with text, an element a character. The listeners are on the box, as one
  // a character would be slow.

  function fill(box, passages, describe) {
    const all = [];
    for (const characters of passages) {
      const part = element("div", { class: "passage", dir: "auto" });
      for (const character of characters) {
        const node = element("i", {}, character);
        if (character === "\n") node.classList.add("newline");
        node.dataset.n = all.length;
        all.push(node);
        part.append(node);
      }
      box.append(part);
    }
    let on = null;
    const choose = (node) => {
      if (on) on.classList.remove("on");
      on = node;
      if (!on) { hideTip(); return; }
      on.classList.add("on");
      const place = on.getBoundingClientRect();
      showTip(place.left, place.bottom - 12, ...describe(+on.dataset.n));
    };
    const chosen = (event) => event.target.closest("i");
    box.addEventListener("pointerover", (event) => choose(chosen(event)));
    box.addEventListener("pointerdown", (event) => choose(chosen(event)));
    box.addEventListener("pointerleave", (event) => {
      if (event.pointerType !== "touch") choose(null);
    });
    box.addEventListener("scroll", () => choose(null));
    document.addEventListener("pointerdown", (event) => {
      if (on && !box.contains(event.target)) choose(null);
    });
    return all;
  }

  function paint(node, kind, strength) {
    node.classList.remove("p", "h", "l");
    if (kind) node.classList.add(kind);
    node.style.setProperty("--a", strength.toFixed(2));
  }

  const named = (c) => c === "\n" ? "↵" : c === " " ? "␣" : c;
  const percent = (p) => p >= 0.0995 ? `${(p * 100).toFixed(0)}%`
    : p >= 0.00095 ? `${(p * 100).toFixed(1)}%` : "<0.1%";
  // The strength of the colour grows with the bits of surprise, up to eight.
  const surprise = (nats) => 0.8 * Math.min(1, nats / Math.LN2 / 8);

  function legendOf(place, before, swatches, after) {
    const box = byId(place);
    box.append(element("span", {}, before));
    for (const [label, kind, strength] of swatches) {
      const swatch = element("i", {}, label);
      paint(swatch, kind, strength);
      box.append(swatch);
    }
    box.append(element("span", {}, after));
  }

  function drawHeldOut({ passages }) {
    const list = (key) => passages.flatMap((p) => p[key]);
    const characters = list("characters"), nats = list("nats"), guesses = list("guesses");
    const nodes = fill(byId("heldout"), passages.map((p) => p.characters), (n) => {
      const head = element("div", { class: "head" });
      if (nats[n] === null) {
        head.append(element("code", {}, named(characters[n])), " – the first of its passage, not predicted");
        return [head];
      }
      const p = Math.exp(-nats[n] / 100);
      head.append(element("code", {}, named(characters[n])),
        ` – ${percent(p)}, ${(nats[n] / 100 / Math.LN2).toFixed(1)} bits`);
      const table = element("table");
      for (const [guess, share] of guesses[n]) {
        const bar = element("i");
        bar.style.setProperty("--part", share / 1000);
        table.append(element("tr", guess === characters[n] ? { class: "true" } : {},
          element("td", {}, element("code", {}, named(guess))),
          element("td", {}, percent(share / 1000)),
          element("td", { class: "meter" }, bar)));
      }
      return [head, table];
    });
    nodes.forEach((node, n) => {
      if (nats[n] !== null) paint(node, "p", surprise(nats[n] / 100));
    });
    const shown = [1, 0.5, 0.1, 0.01, 0.001];
    legendOf("legend-heldout", "probability", shown.map((p) =>
      [`${p * 100}%`, "p", surprise(-Math.log(p))]), "");
  }

  function drawCells(cells) {
    const raw = Uint8Array.from(atob(cells.values), (c) => c.charCodeAt(0));
    const activations = new Int8Array(raw.buffer);
    const length = cells.characters.length;
    let current = 0;
    const value = (n) => activations[current * length + n] / 127;
    const nodes = fill(byId("cells"), [cells.characters], (n) => rows(
      named(cells.characters[n]), [["activation", (value(n) * cells.scale[current]).toFixed(3)]]));
    const layer = byId("layer"), unit = byId("unit");
    const find = (wanted) => cells.units.findIndex((u) => u.join() === wanted.join());
    const states = [...new Set(cells.units.map((u) => u[2]))];
    const label = (u) => states.length > 1 ? `${u[1]} (${u[2]})` : String(u[1]);

    for (const number of [...new Set(cells.units.map((u) => u[0]))])
      layer.append(element("option", { value: number }, String(number + 1)));

    function listUnits() {
      unit.replaceChildren(...cells.units.flatMap((u, i) => u[0] === +layer.value
        ? [element("option", { value: i }, label(u))] : []));
    }

    function show(number) {
      current = number;
      const [l] = cells.units[number];
      if (+layer.value !== l || !unit.options.length) { layer.value = l; listUnits(); }
      unit.value = number;
      nodes.forEach((node, n) => paint(node, value(n) < 0 ? "l" : "h", Math.abs(value(n)) * 0.75));
      byId("about").textContent = `state ${cells.units[number][2]}, up to ±${short(cells.scale[number])}`;
      for (const button of byId("telling").children)
        button.setAttribute("aria-pressed", +button.dataset.unit === number);
    }

    for (const [name, l, index, state, score, sign] of cells.telling) {
      const number = find([l, index, state]);
      const about = `layer ${l + 1}, unit ${index}, r = ${sign < 0 ? "−" : ""}${score.toFixed(2)}`;
      const button = element("button", { type: "button", "data-unit": number }, name,
        element("small", {}, about));
      button.addEventListener("click", () => show(number));
      byId("telling").append(button);
    }
    layer.addEventListener("change", () => { listUnits(); show(+unit.value); });
    unit.addEventListener("change", () => show(+unit.value));
    const step = (by) => show((current + by + cells.units.length) % cells.units.length);
    byId("before").addEventListener("click", () => step(-1));
    byId("after").addEventListener("click", () => step(1));
    legendOf("legend-cells", "", [["−1", "l", 0.75], ["−½", "l", 0.375], ["0", "", 0],
      ["½", "h", 0.375], ["1", "h", 0.75]], "of the unit's largest state");
    listUnits();
    show(cells.telling.length ? find(cells.telling[0].slice(1, 4)) : 0);
  }

  // Draws gate saturation: one chart a gate, one dot a unit, one colour a layer.

  function drawSaturation({ layers }) {
    const box = byId("saturation");
    layers.forEach((_, number) => {
      const key = element("span", { class: "key" });
      key.style.setProperty("--c", color(number));
      byId("legend-layers").append(key, `layer ${number + 1}`);
    });
    for (const gate of new Set(layers.flatMap((layer) => Object.keys(layer)))) {
      const holder = element("div", { class: "chart" });
      box.append(holder);
      const svg = shape(holder, "svg", { viewBox: "0 0 260 262", role: "img",
        "aria-label": `saturation of the ${gate} gate`, style: "max-width:20rem" });
      const x = (v) => 40 + v * 205, y = (v) => 225 - v * 195;
      shape(svg, "text", { x: 0, y: 14, class: "title" }, `${gate} gate`);
      shape(svg, "path", { class: "grid", fill: "none", d: `M${x(0)} ${y(1)}L${x(1)} ${y(0)}` });
      shape(svg, "path", { class: "axis", fill: "none",
        d: `M${x(0)} ${y(1)}V${y(0)}H${x(1)}` });
      for (const v of [0, 0.5, 1]) {
        shape(svg, "text", { x: x(v), y: 241, "text-anchor": "middle" }, String(v));
        shape(svg, "text", { x: 34, y: y(v) + 4, "text-anchor": "end" }, String(v));
      }
      shape(svg, "text", { x: x(0.5), y: 257, "text-anchor": "middle" }, "share shut");
      shape(svg, "text", { x: 12, y: y(0.5), "text-anchor": "middle",
        transform: `rotate(-90 12 ${y(0.5)})` }, "share open");
      layers.forEach((layer, number) => {
        const found = layer[gate] || { low: [], high: [] };
        found.low.forEach((low, i) => {
          shape(svg, "circle", { cx: x(low).toFixed(1), cy: y(found.high[i]).toFixed(1), r: 3.2,
            fill: color(number), "fill-opacity": 0.55, "data-unit": i, "data-layer": number });
        });
      });
      const read = (event) => {
        const { unit, layer } = event.target.dataset;
        if (unit === undefined) { hideTip(); return; }
        const { low, high } = layers[layer][gate];
        showTip(event.clientX, event.clientY, ...rows(`layer ${+layer + 1}, unit ${unit}`,
          [["shut", percent(low[unit])], ["open", percent(high[unit])]]));
      };
      svg.addEventListener("pointerover", read);
      svg.addEventListener("pointerdown", read);
      svg.addEventListener("pointerleave", hideTip);
    }
  }

  function drawComparison(runs) {
    const axes = [["epochs", "epoch", 1], ["steps", "step", 1], ["minutes", "seconds", 60]];
    document.querySelectorAll(".key[data-series]").forEach((key) =>
      key.style.setProperty("--c", color(+key.dataset.series)));
    const box = byId("axis");
    const draw = (name, key, scale) => {
      const at = (curve) => curve[key].map((v) => v / scale);
      const series = runs.flatMap(({ name: run, curves: { train, val } }, i) => [
        { name: `${run}, training`, color: color(i), width: 1, opacity: 0.45, silent: true,
          points: zip(at(train), train.loss) },
        { name: run, color: color(i), width: 2.2, dots: true, points: zip(at(val), val.loss) }]);
      const old = byId("comparison");
      old.replaceWith(element("div", { class: "wide", id: "comparison" }));
      lineChart("comparison", { title: "loss, nats a character", unit: name, xName: name,
        height: 420, series, range: lossRange(series, []), read: (v) => v.toFixed(4) });
      for (const button of box.children)
        button.setAttribute("aria-pressed", button.textContent === name);
    };
    for (const [name, key, scale] of axes) {
      const button = element("button", { type: "button" }, name);
      button.addEventListener("click", () => draw(name, key, scale));
      box.append(button);
    }
    draw(...axes[0]);
  }

  // Draws runs as dots: one chart a field, the loss upwards, one colour a run.

  function drawScatters(charts, runs) {
    for (const { name, x: at, loss, run, log, labels, note, front, fit } of charts) {
      const holder = element("div", { class: "chart" });
      byId("scatters").append(holder);
      const svg = shape(holder, "svg", { viewBox: "0 0 300 262", role: "img",
        "aria-label": `loss by ${name}`, style: "max-width:24rem" });
      const f = log ? Math.log : (v) => v;
      const low = f(least(at)), wide = f(most(at)) - low, bottom = least(loss);
      const tall = most(loss) - bottom || 1;
      const x = (v) => 58 + (f(v) - low) / wide * 226;
      const y = (v) => 212 - (v - bottom) / tall * 160;
      const path = (points) => points.map(([a, b], i) => `${i ? "L" : "M"}${x(a)} ${y(b)}`).join("");
      shape(svg, "text", { x: 0, y: 14, class: "title" }, name);
      shape(svg, "text", { x: 0, y: 31 }, note || "");
      shape(svg, "path", { class: "axis", fill: "none", d: "M46 46V224H292" });
      for (const v of ticks(bottom, most(loss), 4))
        shape(svg, "text", { x: 40, y: y(v) + 4, "text-anchor": "end" }, short(v));
      const places = labels ? labels.map((_, i) => i)
        : log ? logTicks(least(at), most(at)) : ticks(least(at), most(at), 4);
      for (const v of places)
        shape(svg, "text", { x: x(v), y: 241, "text-anchor": "middle" },
          labels ? labels[v].slice(0, 18) : short(v));
      if (front) shape(svg, "path", { class: "line", stroke: "var(--faint)", d: path(front) });
      if (fit) shape(svg, "path", { class: "reference", fill: "none", d: path(fit) });
      loss.forEach((v, i) => shape(svg, "circle", { cx: x(at[i]).toFixed(1),
        cy: y(v).toFixed(1), r: 4, fill: color(run[i]), "fill-opacity": 0.75, "data-i": i }));
      const read = (event) => {
        const { i } = event.target.dataset;
        if (i === undefined) { hideTip(); return; }
        showTip(event.clientX, event.clientY, ...rows(runs[run[i]].name,
          [[name, labels ? labels[at[i]] : short(at[i])], ["loss", loss[i].toFixed(4)]]));
      };
      svg.addEventListener("pointerover", read);
      svg.addEventListener("pointerdown", read);
      svg.addEventListener("pointerleave", hideTip);
    }
  }

  for (const button of document.querySelectorAll("[data-copy]"))
    button.addEventListener("click", async () => {
      const source = byId(button.dataset.copy);
      try {
        await navigator.clipboard.writeText(source.textContent);
        button.textContent = "Copied";
      } catch {
        // A page opened from a file may not write to the clipboard, so select the text.
        getSelection().selectAllChildren(source);
      }
    });

  if (data.curves && byId("loss")) drawCurves(data);
  if (data.heldout) drawHeldOut(data.heldout);
  if (data.cells) drawCells(data.cells);
  if (data.saturation && data.saturation.layers) drawSaturation(data.saturation);
  if (data.comparison) drawComparison(data.comparison);
  if (data.scatters) drawScatters(data.scatters, data.comparison);
})();
