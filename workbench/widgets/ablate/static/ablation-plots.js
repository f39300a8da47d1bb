// Curves and matrices of results, and the maps behind a point.

const SYMBOLS = ["M-4,0A4,4 0 1,0 4,0A4,4 0 1,0 -4,0Z", "M-3.6,-3.6H3.6V3.6H-3.6Z", "M0,-4.6L4.4,3.4H-4.4Z", "M0,-5L5,0L0,5L-5,0Z"];
const DASHES = ["none", "7 3", "2 3", "9 3 2 3"];
const PLOT_HEIGHT = 270;

const inkOf = (line) => (line.concept === null ? "var(--wb-ink)" : conceptColour(line.concept));
const markOf = (line) => (line.concept === null ? 0 : line.concept + 1);

/** A point of a line with its symbol. */
function symbol(line, attributes = {}) {
  return s("path.wb-symbol", { d: SYMBOLS[markOf(line) % SYMBOLS.length], fill: inkOf(line), ...attributes });
}

/** What both kinds of figures share: what is picked, the keys, the words for a point. */
class Plot {
  constructor({ onpick, onfocus }) {
    Object.assign(this, { onpick, onfocus, focus: 0, picked: null });
    this.svg = s("svg.wb-plot", { tabindex: 0, role: "application", "aria-label": "Figure of the result", "aria-roledescription": "plot to pick from", data: { control: "plot" } });
    this.legend = h("div.wb-chips.wb-plot-legend", { role: "group", "aria-label": "Lines" });
    this.note = h("p.wb-hint", { "aria-live": "polite", data: { role: "point" } });
    this.colours = new ColourBar();
    this.cells = new Cells();
    this.element = h("div.wb-plot-area", {}, h("div.wb-scroll", {}, this.svg), this.colours.element, this.legend, this.note);
    this.svg.addEventListener("pointermove", (event) => this.say(this.indexOf(event) ?? this.picked));
    this.svg.addEventListener("pointerleave", () => this.say(this.picked));
    this.svg.addEventListener("click", (event) => this.pick(this.indexOf(event)));
    this.svg.addEventListener("keydown", (event) => this.key(event));
  }

  show(plot, width) {
    if (plot !== this.plot) this.picked = null;
    if (plot !== this.plot && this.focus >= plot.lines.length) this.focus = 0;
    Object.assign(this, { plot, width });
    this.draw();
  }

  draw() {
    if (!this.plot) return;
    this.matrix = this.plot.dims.length === 2;
    (this.matrix ? drawMatrix : drawCurves)(this);
    this.colours.element.hidden = !this.matrix;
    this.element.classList.toggle("wb-plot-matrix", this.matrix);
    this.drawLegend();
    this.say(this.picked);
  }

  get line() {
    return this.plot.lines[this.focus];
  }

  drawLegend() {
    const { plot } = this;
    const chips = plot.lines.map((line, index) =>
      h(
        "button.wb-chip",
        { type: "button", data: { line: index }, "aria-pressed": String(index === this.focus), title: this.matrix ? "Show this one" : "Bring to the front, with its band", onclick: () => this.setFocus(index) },
        this.matrix ? null : s("svg.wb-key", { width: 30, height: 12, viewBox: "-15 -6 30 12", "aria-hidden": "true" },
          s("line", { x1: -15, x2: 15, stroke: inkOf(line), "stroke-width": 1.8, "stroke-dasharray": DASHES[markOf(line) % DASHES.length] }), symbol(line)),
        h("span", {}, line.name)
      )
    );
    const sample = (kind) => s("svg.wb-key", { width: 22, height: 12, "aria-hidden": "true" }, s(`rect.${kind}`, { width: 22, height: 12, style: kind === "wb-band" ? { fill: inkOf(this.line) } : {} }));
    const extra = [];
    if (!this.matrix && plot.band && this.line.low) extra.push(h("span.wb-key-text", {}, sample("wb-band"), plot.band));
    if (!this.matrix && this.line.control_low) {
      extra.push(h("span.wb-key-text", {}, hatched(sample("wb-control-band")), plot.control));
    }
    if (!this.matrix && this.line.full !== null && this.line.full !== undefined) {
      extra.push(h("span.wb-key-text", {}, s("svg.wb-key", { width: 22, height: 12, "aria-hidden": "true" }, s("line.wb-full", { x1: 0, x2: 22, y1: 6, y2: 6 })), plot.reference));
    }
    if (plot.remark) extra.push(h("span.wb-key-text", { data: { role: "remark" } }, plot.remark));
    if (this.matrix && this.line.rank && plot.marked) extra.push(h("span.wb-key-text", {}, s("svg.wb-key", { width: 12, height: 12, "aria-hidden": "true" }, s("circle.wb-beyond", { cx: 6, cy: 6, r: 3 })), "effect larger than all its controls"));
    this.legend.replaceChildren(...chips, ...extra);
  }

  setFocus(index) {
    this.focus = index;
    this.draw();
    this.legend.querySelector(`[data-line="${index}"]`)?.focus();
    this.onfocus?.(index);
  }

  at(values, index) {
    return index.reduce((held, one) => held?.[one], values);
  }

  place(index) {
    const { dims, labels } = this.plot;
    return index.map((one, i) => (["rank", "intervention"].includes(dims[i]) ? labels[i][one] : `${dims[i]} ${labels[i][one]}`)).join(", ");
  }

  say(index) {
    this.mark?.(index);
    if (!this.plot) return;
    if (!index) {
      this.note.textContent = `Click a ${this.matrix ? "cell" : "point"} to see its maps; arrow keys move.`;
      return;
    }
    const { line } = this;
    const value = this.at(line.values, index);
    const why = this.plot.why ? this.at(this.plot.why, index) : "";
    const parts = [`${sentence(this.place(index))}: ${value === null ? "no value" : number(value)}${why ? `, ${why.replace(/\.$/, "")}` : ""}`];
    if (line.low && this.at(line.low, index) !== null) parts.push(`${this.plot.band} ${number(this.at(line.low, index))} to ${number(this.at(line.high, index))}`);
    if (line.control_low && this.at(line.control_low, index) !== null) {
      parts.push(`controls ${number(this.at(line.control_low, index))} to ${number(this.at(line.control_high, index))}`);
      const rank = this.at(line.rank, index);
      if (rank !== null) parts.push(`a larger effect than ${rank === 1 ? "all" : `${Math.min(99, Math.round(100 * rank))} %`} of ${this.plot.repeats}`);
    }
    this.note.textContent = `${parts.join("; ")} (${line.name}).`;
  }

  pick(index) {
    if (!index) return;
    this.picked = index;
    this.say(index);
    this.onpick(index);
  }

  key(event) {
    const by = this.plot ? arrow(event) : null;
    if (!by) return;
    const sizes = this.plot.labels.map((labels) => labels.length);
    const steps = this.matrix ? [this.grid.upwards ? by[1] : -by[1], by[0]] : [by[0]];
    this.pick((this.picked ?? sizes.map(() => 0)).map((at, i) => within(at + (this.picked ? steps[i] : 0), sizes[i])));
  }
}

/** Fill a sample of the band of controls: hatching tells it from other bands without colour. */
function hatched(svg) {
  const { width, height } = { width: 22, height: 12 };
  const strokes = [];
  for (let x = -height; x < width; x += 5) strokes.push(`M${x},${height}L${x + height},0`);
  svg.append(s("path.wb-hatch", { d: strokes.join(""), "clip-path": "inset(0)" }));
  return svg;
}

/** A text on one line, or broken near its middle when it would be longer than so many pixels. */
function broken(text, room) {
  if (6.4 * text.length <= room) return [text];
  const spaces = [...text.matchAll(/ /g)].map((found) => found.index);
  const at = spaces.sort((a, b) => Math.abs(a - text.length / 2) - Math.abs(b - text.length / 2))[0];
  return at === undefined ? [text] : [text.slice(0, at), text.slice(at + 1)];
}

function drawCurves(view) {
  const { plot, line: front } = view;
  const width = Math.max(300, Math.min(view.width - 8, 760));
  const measure = broken(plot.measure, PLOT_HEIGHT - 56);
  const box = { left: 62 + 14 * (measure.length - 1), right: width - 12, top: 12, bottom: PLOT_HEIGHT - 44 };
  const names = plot.labels[0];
  const spread = plot.lines.flatMap((line) => [line.values, ...(line === front ? [line.low, line.high, line.control_low, line.control_high, line.full ?? []] : [])]);
  let [low, high] = endsOf(finite(spread.filter(Boolean)));
  if (plot.zero) [low, high] = [Math.min(low, 0), Math.max(high, 0)];
  const margin = (high - low || Math.abs(high) || 1) * 0.07;
  [low, high] = [plot.zero && low === 0 ? 0 : low - margin, high + margin];
  const plane = new Plane(box, names.length, [low, high], 12);
  const order = [...plot.lines.keys()].sort((a, b) => (a === view.focus) - (b === view.focus));
  const joined = plot.joined !== false;
  const lines = order.map((index) => {
    const line = plot.lines[index];
    const chief = index === view.focus;
    const how = { colour: inkOf(line), width: chief ? 2.4 : 1.3, dash: DASHES[markOf(line) % DASHES.length], edged: line.concept !== null };
    const mark = (value, i) => (Number.isFinite(value) ? symbol(line, { transform: `translate(${plane.x(i)},${plane.y(value)}) scale(${chief ? 1.15 : 0.8})`, data: { point: i, line: index, value } }) : null);
    return s("g", { data: { line: index }, opacity: chief ? 1 : 0.75 }, ...(joined ? plane.line(line.values, how) : []), ...line.values.map(mark));
  });
  view.cursor = s("line.wb-cursor", { y1: box.top, y2: box.bottom, visibility: "hidden" });
  view.svg.replaceChildren(
    ...plane.scale(5),
    ...plane.names(names, plot.axes[0]).filter(Boolean),
    ...measure.map((text, i) => s("text.wb-axis", { transform: `translate(${13 + 14 * i},${(box.top + box.bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, text)),
    ...bands(plane, front, joined),
    view.cursor,
    ...lines
  );
  setSize(view.svg, width, PLOT_HEIGHT);
  view.svg.setAttribute("aria-label", `${plot.measure} over ${plot.axes[0]}. Arrow keys pick a point.`);
  view.indexOf = (event) => [plane.nearest(event.clientX - view.svg.getBoundingClientRect().left)];
  view.mark = (index) => {
    reveal(view.cursor, index);
    if (index) ["x1", "x2"].forEach((name) => view.cursor.setAttribute(name, plane.x(index[0])));
  };
}

/** What lies behind the lines: the controls, the interval, and the value of everything together. */
function bands(plane, front, joined) {
  const found = [];
  if (front.control_low) {
    const pattern = `wb-hatch-${(bands.count = (bands.count ?? 0) + 1)}`;
    const d = plane.band(front.control_low, front.control_high, joined);
    found.push(
      s("defs", {}, s("pattern", { id: pattern, width: 5, height: 5, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" }, s("line.wb-hatch", { x1: 0, x2: 0, y1: 0, y2: 5 }))),
      s("path.wb-control-band", { d }),
      s("path.wb-control-lines", { d, fill: `url(#${pattern})` })
    );
    const middle = joined ? plane.path(front.control_middle) : "";
    if (middle) found.push(s("path.wb-control-middle", { d: middle }));
  }
  if (front.low) found.push(s("path.wb-band", { d: plane.band(front.low, front.high, joined), style: { fill: inkOf(front) } }));
  if (Number.isFinite(front.full)) found.push(s("line.wb-full", { x1: plane.box.left, x2: plane.box.right, y1: plane.y(front.full), y2: plane.y(front.full) }));
  return found;
}

function drawMatrix(view) {
  const { plot, line } = view;
  const [down, across] = plot.labels;
  const left = 34 + 7 * Math.max(...down.map((name) => name.length));
  const wide = Math.min(46, Math.max(9, Math.floor((Math.min(view.width, 900) - left - 16) / across.length)));
  const length = 6.6 * plot.axes[0].length;
  const tall = Math.min(Math.max(30, Math.min(46, length / down.length)), Math.max(9, Math.floor(300 / down.length)));
  const cmap = plot.signed ? "diverging" : "cividis";
  const known = endsOf(finite(line.values));
  const ends = plot.signed ? symmetric(known) : known;
  // Upwards is deeper, as everywhere.
  const upwards = plot.dims[0].split(" × ")[0] === "layer";
  const grid = (view.grid = new Grid({ left, wide, tall, rows: down.length, columns: across.length, upwards }));
  const marks = line.values.flatMap((row, r) => [...row.keys()].filter((c) => plot.marked && line.rank?.[r]?.[c] === 1 && Number.isFinite(row[c])).map((c) =>
    s("circle.wb-beyond", { cx: grid.x(c + 0.5) - 0.5, cy: grid.y(r) + 0.5 * tall - 0.5, r: Math.min(3, wide / 4, tall / 4) })
  ));
  view.cursor = s("rect.wb-selection", { visibility: "hidden" });
  view.svg.replaceChildren(
    grid.cells(view.cells, line.values, ends, cmap),
    ...marks,
    ...grid.names(down, across),
    s("text.wb-axis", { x: (left + grid.right) / 2, y: grid.bottom + 31, "text-anchor": "middle" }, plot.axes[1]),
    s("text.wb-axis", { transform: `translate(13,${grid.top + Math.max(tall * down.length, length) / 2}) rotate(-90)`, "text-anchor": "middle" }, plot.axes[0]),
    view.cursor
  );
  setSize(view.svg, Math.max(grid.right + 8, left + 8 * plot.axes[1].length), Math.max(grid.bottom + 40, length + 8));
  view.svg.setAttribute("aria-label", `${plot.measure}: ${plot.axes[0]} by ${plot.axes[1]}. Arrow keys pick a cell.`);
  view.colours.show(cmap, ends, `${plot.measure}, ${line.name}`);
  view.indexOf = (event) => [grid.at(event, view.svg)].find((index) => grid.holds(index)) ?? null;
  view.mark = (index) => {
    reveal(view.cursor, index);
    if (index) grid.frame(view.cursor, [index[0]], [index[1]]);
  };
}

/** Two sets of maps, one below the other, on one colour scale. */
class SideBySide {
  constructor() {
    this.title = h("p.wb-section-title", {});
    this.grid = h("div.wb-pair", {});
    this.colours = new ColourBar();
    this.element = h("div.wb-pair-area", { hidden: true, role: "group", "aria-label": "Maps with and without the choice" }, this.title, h("div.wb-scroll", {}, this.grid), this.colours.element);
  }

  async show(found, buffers, width) {
    const { shape: [concepts, rows, columns], names, titles } = found;
    const maps = [0, 1].map((i) => new Float32Array(buffers[i].buffer.slice(buffers[i].byteOffset, buffers[i].byteOffset + buffers[i].byteLength)));
    const pictures = await Promise.all(found.media.map((type, i) => createImageBitmap(new Blob([buffers[2 + i]], { type }))));
    const known = endsOf(finite(maps.map((values) => [...values])));
    const raw = known[0] < 0;
    const limits = raw ? symmetric(known) : known;
    const count = concepts + (pictures.length ? 1 : 0);
    const words = titles.flatMap((title) => title.split(" ")).map((word) => 7 * word.length);
    const heads = Math.max(88, Math.min(150, Math.max(...words)));
    const side = Math.floor(Math.max(56, Math.min(190, (width - heads - 8 - 10 * count) / count)));
    this.grid.style.gridTemplateColumns = `${heads}px repeat(${count}, ${side}px)`;
    this.title.textContent = `${sentence(titles[1])}, beside ${titles[0]}`;
    const cells = [h("span", {}), ...(pictures.length ? [h("span", {}, "picture")] : []), ...names.map((name, i) => h("span.wb-name", {}, h("span.wb-swatch", { style: { background: conceptColour(i) } }), h("span", {}, name)))];
    const painting = [];
    titles.forEach((title, row) => {
      const painter = new Painter(rows, columns);
      painter.setPicture(pictures[row] ?? null);
      cells.push(h("span.wb-pair-title", {}, sentence(title)));
      const panel = (kind, name, index) => {
        const made = new Panel(kind, name, { index });
        made.canvas.setAttribute("aria-label", `${name}: ${title}`);
        Object.assign(made.canvas.dataset, { side: row, kind, index: index ?? "" });
        made.resize(side, rows / columns);
        cells.push(made.canvas);
        return made;
      };
      if (pictures.length) painting.push(() => painter.picture(picture));
      const picture = pictures.length ? panel("picture", "picture", null) : null;
      names.forEach((name, i) => {
        const one = panel("concept", name, i);
        painting.push(() => painter.map(one, maps[row].subarray(i * rows * columns, (i + 1) * rows * columns), limits, raw ? "diverging" : "viridis", { smooth: false, opacity: 0.8, picture: false }));
      });
    });
    this.grid.replaceChildren(...cells);
    painting.forEach((paint) => paint());
    this.colours.show(raw ? "diverging" : "viridis", limits, raw ? "score" : "share of the concept at a patch");
    this.element.hidden = false;
    this.values = { maps, shape: found.shape, titles, limits };
  }

  clear() {
    this.element.hidden = true;
    this.values = null;
  }
}
