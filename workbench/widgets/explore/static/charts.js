// What unfolds: the overview of layers and timesteps, the strip of heads, and the inspector of one patch.

const STATISTIC_NAMES = {
  patch_agreement: "patches as in the default heat map",
  entropy: "entropy (0 decided, 1 undecided)",
  separability: "separability of the areas",
  iou: "mean IoU with the truth",
  ap: "mean average precision",
};

/**
 * The matrix of a statistic: timesteps from left to right, from the noise to the picture, and layers from the bottom up,
 * deeper and deeper. Clicking or dragging selects.
 */
class Overview {
  constructor(store) {
    this.store = store;
    const names = store.meta.statistics.map((name) => [name, STATISTIC_NAMES[name]]);
    this.statistic = choice("statistic", "Statistic", names, (statistic) => store.change({ statistic }));
    this.svg = s("svg.wb-matrix", { tabindex: 0, role: "application", "aria-label": "Layers by timesteps", "aria-roledescription": "matrix to select from" });
    this.note = h("p.wb-hint", { "aria-live": "polite" });
    this.colours = new ColourBar();
    this.cells = new Cells();
    const side = h("div.wb-side", {}, this.statistic.element, this.colours.element, this.note);
    this.element = h("div.wb-body.wb-split", {}, h("div.wb-scroll", {}, this.svg), side);
    this.svg.addEventListener("pointerdown", (event) => this.grab(event));
    this.svg.addEventListener("pointermove", (event) => this.point(this.cellOf(event)));
    this.svg.addEventListener("pointerleave", () => this.point(null));
    this.svg.addEventListener("keydown", (event) => this.key(event));
  }

  update(width) {
    const { store } = this;
    const { space, sample, frame, statistic } = store.state;
    this.statistic.select.value = statistic;
    const wanted = JSON.stringify([space, sample, frame, statistic]);
    if (this.asked !== wanted) {
      this.asked = wanted;
      store.ask("overview");
    }
    const found = store.extras.overview;
    const drawn = found && `${JSON.stringify(found.values)} ${width}`;
    this.svg.parentElement.hidden = Boolean(found?.error);
    if (found?.error) {
      this.note.textContent = sentence(found.error);
      this.drawn = null;
    } else if (found && drawn !== this.drawn) {
      this.drawn = drawn;
      this.draw(found, width);
    }
    this.colours.element.hidden = !this.drawn;
    if (!found) this.note.textContent = store.silent ? "The kernel does not answer." : "Computing…";
    else if (this.drawn) this.select();
  }

  draw({ values, statistic }, width) {
    const { layers, timesteps } = this.store.meta;
    const [left, margin] = [44, 34];
    const room = Math.max(width - left - 8, 120);
    const wide = Math.min(44, Math.max(7, Math.floor(room / timesteps.length)));
    const tall = Math.min(24, Math.max(7, Math.floor(260 / layers.length)));
    const grid = (this.grid = new Grid({ left, wide, tall, rows: layers.length, columns: timesteps.length, upwards: true }));
    this.values = layers.map((_, l) => values.map((row) => row[l]));
    const ends = endsOf(finite(values));
    this.cursor = s("rect.wb-cursor", { visibility: "hidden" });
    this.box = s("rect.wb-selection", {});
    this.svg.replaceChildren(
      grid.cells(this.cells, this.values, ends, "cividis", (l, t) => `${t},${l}`),
      ...grid.names(layers.map(plain), timesteps.map((timestep) => plain(Math.round(timestep)))),
      s("text.wb-axis", { x: left, y: grid.bottom + margin - 5 }, "timesteps → from noise to picture · layers ↑ deeper"),
      this.box,
      this.cursor
    );
    setSize(this.svg, Math.max(grid.right, left + 290) + 4, grid.bottom + margin);
    this.shownStatistic = statistic;
    this.colours.show("cividis", ends, STATISTIC_NAMES[this.shownStatistic]);
  }

  select() {
    const { layers, timesteps } = this.store.chosen();
    this.grid.frame(this.box, [layers[0], layers.at(-1)], [timesteps[0], timesteps.at(-1)]);
    const values = layers.flatMap((l) => timesteps.map((t) => this.values[l][t])).filter((value) => value !== null);
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    this.summary = `Selected: mean ${number(mean)} over ${layers.length} layer${layers.length > 1 ? "s" : ""} × ${timesteps.length} timestep${timesteps.length > 1 ? "s" : ""}. Click or drag to select.`;
    this.svg.setAttribute("aria-label", `Layers by timesteps, ${STATISTIC_NAMES[this.shownStatistic]}. ${this.summary} Arrow keys move the selection, with Shift they extend it.`);
    if (!this.pointed) this.note.textContent = this.summary;
  }

  cellOf(event) {
    if (!this.drawn) return null;
    const at = this.grid.at(event, this.svg);
    return { l: within(at[0], this.grid.rows), t: within(at[1], this.grid.columns), inside: this.grid.holds(at) };
  }

  point(cell) {
    this.pointed = Boolean(cell?.inside);
    if (!this.drawn) return;
    reveal(this.cursor, this.pointed);
    if (!this.pointed) {
      this.note.textContent = this.summary;
      return;
    }
    const { meta } = this.store;
    this.grid.frame(this.cursor, [cell.l], [cell.t]);
    const block = meta.blocks[cell.l] ? ` (${meta.blocks[cell.l]})` : "";
    const value = this.values[cell.l][cell.t];
    this.note.textContent = `Layer ${meta.layers[cell.l]}${block}, timestep ${plain(meta.timesteps[cell.t])}, σ ${plain(meta.sigmas[cell.t])}: ${value === null ? "missing" : number(value)}`;
  }

  choose(a, b) {
    const { layers, timesteps } = this.store.meta;
    const [first, last] = [Math.min(a.l, b.l), Math.max(a.l, b.l)];
    const [high, low] = [Math.min(a.t, b.t), Math.max(a.t, b.t)];
    const next = { layers: [layers[first], layers[last]], timesteps: [timesteps[high], timesteps[low]] };
    const { state } = this.store;
    if (JSON.stringify([next.layers, next.timesteps]) !== JSON.stringify([state.layers, state.timesteps])) this.store.change(next);
  }

  grab(event) {
    const start = this.cellOf(event);
    if (event.button !== 0 || !start?.inside) return;
    event.preventDefault();
    this.svg.focus({ preventScroll: true });
    this.choose(start, start);
    follow(this.svg, event, (at) => this.choose(start, this.cellOf(at)));
  }

  key(event) {
    const by = arrow(event);
    if (!by) return;
    const { layers, timesteps } = this.store.chosen();
    const moved = (t, l) => ({ t: within(t + by[0], this.grid.columns), l: within(l + by[1], this.grid.rows) });
    const start = { t: timesteps[0], l: layers[0] };
    const end = { t: timesteps.at(-1), l: layers.at(-1) };
    // Upwards is deeper: the end that Shift moves is the upper right one.
    if (event.shiftKey) this.choose(start, moved(end.t, end.l));
    else this.choose(moved(start.t, start.l), moved(end.t, end.l));
  }
}

/** One small map for each head of a layer. */
class HeadStrip {
  constructor(store, painter) {
    Object.assign(this, { store, painter });
    this.layer = choice("head-layer", "Layer", [], (value) => store.change({ head_layer: Number(value) }));
    this.all = button("All heads", { data: { control: "heads-all" }, onclick: () => store.change({ heads: null }) });
    this.strip = h("div.wb-heads", { role: "group", "aria-label": "Heads" });
    this.note = h("p.wb-hint", { "aria-live": "polite" });
    this.element = h("div.wb-body", {}, h("div.wb-row", {}, this.layer.element, this.all), this.strip, this.note);
  }

  update() {
    const { store } = this;
    const { state, meta } = store;
    this.all.disabled = state.heads === null;
    const reason = !store.space.heads
      ? "This run holds only the sums over heads of this space."
      : meta.offline
        ? "This page has no kernel: single heads cannot be read here."
        : null;
    this.layer.element.hidden = this.all.hidden = Boolean(reason);
    if (reason) {
      this.strip.replaceChildren();
      this.note.textContent = reason;
      return;
    }
    if (!this.layer.select.options.length) this.layer.set(meta.layers.map((layer) => [layer, layer]));
    this.layer.select.value = store.stripLayer;
    const { space, timesteps, sample, frame, reduce, focus } = state;
    const wanted = JSON.stringify([space, timesteps, sample, frame, reduce, focus, store.stripLayer]);
    if (this.asked !== wanted) {
      this.asked = wanted;
      store.ask("heads");
    }
    const found = store.extras.heads;
    if (found && found !== this.drawn) this.draw(found);
    for (const element of this.strip.children) {
      element.setAttribute("aria-pressed", String(Boolean(state.heads?.includes(Number(element.dataset.head)))));
    }
    if (!found) this.note.textContent = store.silent ? "The kernel does not answer." : "Reading…";
  }

  draw(found) {
    const { store, painter } = this;
    this.drawn = found;
    if (found.error) {
      this.strip.replaceChildren();
      this.note.textContent = sentence(found.error);
      return;
    }
    const { patches, meta } = store;
    const heads = meta.heads;
    if (this.strip.children.length !== heads.length) {
      this.strip.replaceChildren(
        ...heads.map((head) =>
          h(
            "button.wb-head-map",
            { type: "button", data: { head }, "aria-label": `Head ${head}`, "aria-pressed": "false", onclick: (event) => this.pick(head, event) },
            h("canvas", { width: 60, height: Math.max(1, Math.round((60 * store.rows) / store.columns)) }),
            h("span", {}, plain(head))
          )
        )
      );
    }
    const ends = extent(found.maps, patches, heads.keys());
    const cmap = found.reduce === "mean" ? "diverging" : "viridis";
    const limits = cmap === "diverging" ? [-1, 1].map((sign) => sign * Math.max(...ends.map(Math.abs))) : ends;
    [...this.strip.children].forEach((element, index) => {
      const panel = { canvas: element.firstElementChild };
      painter.map(panel, found.maps.subarray(index * patches, (index + 1) * patches), limits, cmap, { smooth: false, opacity: 1, picture: false });
    });
    const name = store.names[found.focus];
    this.note.textContent = `“${name}”, each head of layer ${found.layer} alone, ${mapValue(limits[0], found.reduce)} to ${mapValue(limits[1], found.reduce)}. Click one to use it; Shift adds more.`;
  }

  pick(head, event) {
    const { store } = this;
    const held = store.state.heads ?? [];
    const adding = event.shiftKey || event.ctrlKey || event.metaKey;
    let heads = [head];
    if (adding) heads = held.includes(head) ? held.filter((other) => other !== head) : [...held, head].sort((a, b) => a - b);
    else if (held.length === 1 && held[0] === head) heads = [];
    store.change({ heads: heads.length ? heads : null });
  }
}

/** The pinned patch: a bar for each concept, and how they run over layers and over timesteps. */
class Inspector {
  constructor(store) {
    this.store = store;
    this.note = h("p.wb-hint", {});
    this.bars = h("div.wb-bars", { role: "list" });
    this.layers = h("div.wb-chart", {});
    this.timesteps = h("div.wb-chart", {});
    this.unpin = button("Unpin", { data: { control: "unpin" }, onclick: () => store.change({ pin: null }) });
    this.charts = h("div.wb-charts", {}, this.bars, this.layers, this.timesteps);
    this.element = h("div.wb-body", {}, h("div.wb-row", {}, this.note, this.unpin), this.charts);
  }

  update(width) {
    const { store } = this;
    const { state, meta } = store;
    this.unpin.hidden = this.charts.hidden = !state.pin;
    if (!state.pin) {
      this.note.textContent = "Click a patch of any panel to pin it here.";
      return;
    }
    const [row, column] = state.pin;
    const raw = state.reduce === "mean";
    const what = raw ? `${state.space} scores` : "shares";
    this.note.textContent = `Patch in row ${row}, column ${column} (counted from 0): ${what}.`;
    if (!store.maps) return;
    const patch = row * store.columns + column;
    const values = store.names.map((_, index) => store.maps[index * store.patches + patch]);
    // Shares run from 0 to 1; scores have signs, so their bars begin at a zero line.
    const low = raw ? Math.min(0, ...values) : 0;
    const high = raw ? Math.max(0, ...values, low + 1e-12) : 1;
    const share = (value) => (100 * value) / (high - low);
    const ends = raw ? ` Bars from ${number(low)} to ${number(high)}.` : " Bars from 0 to 1.";
    this.note.textContent += ends;
    this.bars.replaceChildren(
      ...store.names.map((name, index) =>
        h(
          "div.wb-bar-row",
          { role: "listitem", data: { index, value: values[index] } },
          h("span.wb-bar-name", {}, name),
          h("span.wb-bar-space", {},
            h("span.wb-bar-fill", { style: { left: `${share(Math.min(values[index], 0) - low)}%`, width: `${share(Math.abs(values[index]))}%`, background: conceptColour(index) } }),
            low < 0 ? h("span.wb-bar-zero", { style: { left: `${share(-low)}%` } }) : null),
          h("span.wb-bar-value", {}, mapValue(values[index], state.reduce))
        )
      )
    );
    const { space, layers, timesteps, heads, sample, frame, reduce } = state;
    if (!store.inBrowser && !meta.offline) {
      const wanted = JSON.stringify([space, layers, timesteps, heads, sample, frame, reduce, state.pin]);
      if (this.asked !== wanted) {
        this.asked = wanted;
        store.ask("runs");
      }
    }
    const runs = store.runs();
    if (!runs || runs.error) {
      this.layers.replaceChildren(h("p.wb-hint", {}, sentence(runs?.error) || "Computing…"));
      this.timesteps.replaceChildren();
      return;
    }
    const chosen = store.chosen();
    const side = Math.max(200, Math.min(460, (width - 24) / (width > 760 ? 3 : width > 520 ? 2 : 1)));
    this.layers.replaceChildren(curves(`${what} over layers`, "layer", meta.layers, runs.layers, chosen.layers, store, side));
    this.timesteps.replaceChildren(curves(`${what} over timesteps`, "timestep", meta.timesteps, runs.timesteps, chosen.timesteps, store, side));
  }
}

/** Lines of all concepts over a coordinate, with the chosen part shaded. */
function curves(title, axis, at, table, chosen, store, width) {
  const height = 170;
  const box = { left: 40, right: width - 10, top: 22, bottom: height - 35 };
  let [low, high] = endsOf([0, ...finite(table.map((row) => [...row]))]);
  high += (high - low) * 0.05;
  if (!(high > low)) [low, high] = [0, 1];
  const plane = new Plane(box, at.length, [low, high], 8);
  const half = Math.max(plane.step / 2, 4);
  const { focus } = store.state;
  const order = [...store.names.keys()].sort((a, b) => (a === focus) - (b === focus));
  const lines = order.map((index) => {
    const width = index === focus ? 2.5 : 1.4;
    const colour = conceptColour(index);
    const values = table.map((row) => row[index]);
    const dot = (value, i) => (Number.isFinite(value) ? s("circle.wb-dot", { cx: plane.x(i), cy: plane.y(value), r: width + 0.8, fill: colour }) : null);
    return s("g", {}, ...plane.line(values, { colour, width }), ...(at.length < 30 ? values.map(dot) : []), s("title", {}, store.names[index]));
  });
  return s(
    "svg.wb-curves",
    { width, height, role: "img", "aria-label": `The patch: ${title}`, data: { axis } },
    s("rect.wb-chosen", { x: plane.x(chosen[0]) - half, y: box.top, width: plane.x(chosen.at(-1)) - plane.x(chosen[0]) + 2 * half, height: box.bottom - box.top }),
    ...plane.scale(3),
    ...plane.names(at.map((value) => plain(Math.round(value))), axis),
    s("text.wb-chart-title", { x: box.left, y: 12 }, title),
    ...lines
  );
}
