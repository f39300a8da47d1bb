// One view: the controls, the panels, what unfolds, and the keys. It draws what the store holds and computes nothing.

const KEYS = [
  ["← →", "timestep, towards the noise or the picture"],
  ["↑ ↓", "deeper or shallower layer"],
  ["Space", "play over timesteps (with Shift over layers)"],
  ["1 – 9", "pick a concept, or let it go"],
  ["Shift + arrows, Enter", "move over the patches, pin one"],
  ["Esc", "unpin, stop, close"],
  ["o  h  i  m", "overview, heads, inspector of the patch, more options"],
  ["s  p", "smooth, picture under the maps"],
  ["c", "copy as code"],
  ["?", "these keys"],
];
const REDUCTION_NAMES = [
  ["softmax_mean", "softmax, then mean"],
  ["mean_softmax", "mean, then softmax"],
  ["mean", "off (raw scores)"],
];
/** What is compared with what in a space: o outputs, q queries, k keys, v values; x of a patch, c of a concept, p of the prompt. */
const SPACE_MEANINGS = {
  output: "⟨o_x, o_c⟩: attention outputs of patch and concept, before the output projection",
  cross: "q_c · k_x / √d: does the concept look at the patch?",
  reverse_cross: "q_x · k_c / √d: would the patch look at the concept?",
  value: "⟨v_x, v_c⟩: values of patch and concept",
  query: "⟨q_x, q_c⟩, before the rotary embedding",
  prompt: "q_p · k_x / √d: does the prompt's token look at the patch?",
};
const PLAY_PAUSE = 380;

class View {
  constructor(store, el) {
    this.store = store;
    this.panels = [];
    this.hover = null;
    this.root = h("div.wb-view", { tabindex: 0, role: "group", "aria-label": "Concept maps; press ? for the keys" });
    el.append(this.root);
    if (store.failure) {
      this.root.append(h("p.wb-error", { role: "alert" }, store.failure));
      return;
    }
    this.painter = new Painter(store.rows, store.columns);
    this.build();
    this.root.addEventListener("keydown", (event) => this.guard(() => this.key(event)));
    this.observer = new ResizeObserver(() => this.guard(() => this.layout()));
    this.observer.observe(this.root);
    this.root.workbench = this.hooks();
    store.attach(this);
    this.update("picture");
    this.update("state");
    this.update("slow");
    if (store.maps) store.schedule();
  }

  dispose() {
    this.stop();
    this.observer?.disconnect();
    if (!this.store.failure) this.store.detach(this);
    this.root.remove();
  }

  /** A failure of ours leaves the rest of the view working. */
  guard(action) {
    try {
      action();
    } catch (error) {
      this.failure(error);
    }
  }

  failure(error) {
    console.warn("workbench: a part of the view failed", error);
    this.failed.hidden = false;
    this.failed.textContent = `A part of this view failed (${error.message}). The rest still works; running the cell again makes a fresh view.`;
  }

  // --- building ----------------------------------------------------------------------------------------------

  build() {
    const { store } = this;
    const { meta } = store;
    this.title = h("div.wb-title", {});
    this.glance = h("div.wb-glance", {});
    this.tools = h(
      "div.wb-tools",
      {},
      button("Code", { data: { control: "code" }, title: "Copy as code (c)", onclick: () => this.copy() }),
      button("Save", { data: { control: "save" }, "aria-expanded": "false", onclick: () => this.toggle(this.saving) }),
      button("?", { data: { control: "help" }, "aria-label": "Keys", "aria-expanded": "false", onclick: () => this.toggle(this.help) })
    );
    this.code = h("pre.wb-code", { tabindex: 0 });
    this.copied = h("span.wb-hint", { role: "status" });
    this.coding = h("div.wb-drawer", { hidden: true }, this.code, this.copied);
    this.saving = h(
      "div.wb-drawer.wb-row",
      { hidden: true },
      button("Picture (PNG)", { data: { control: "save-png" }, onclick: () => savePicture(this) }),
      button("State (JSON)", { data: { control: "save-state" }, onclick: () => saveState(this) }),
      meta.offline || !meta.page ? null : button("Page (HTML, needs no kernel)", { data: { control: "save-page" }, onclick: () => store.ask("page") })
    );
    this.help = h("div.wb-drawer.wb-keys", { hidden: true }, ...KEYS.flatMap(([keys, what]) => [h("kbd", {}, keys), h("span", {}, what)]));
    this.failed = h("p.wb-error", { role: "alert", hidden: true });
    this.notice = h("p.wb-notice", { role: "status", hidden: true });
    const options = this.buildOptions();
    this.controls = this.buildControls();
    this.rest = h("p.wb-note.wb-rest", { role: "status", hidden: true });
    this.grid = h("div.wb-panels", {});
    this.problem = h("p.wb-error", { role: "alert", hidden: true });
    this.bar = new ColourBar();
    this.differenceBar = new ColourBar();
    this.differenceBar.element.hidden = true;
    this.legend = h("div.wb-legend", { role: "group", "aria-label": "Concepts" });
    this.readout = h("p.wb-readout", {});
    this.spoken = h("p.wb-spoken", { "aria-live": "polite" });
    this.notes = h("div.wb-notes", {});
    this.overview = new Overview(store);
    this.strip = new HeadStrip(store, this.painter);
    this.inspector = new Inspector(store);
    this.sections = h(
      "div.wb-sections",
      {},
      this.section("overview", "Overview", "every layer and timestep", this.overview),
      meta.heads.length ? this.section("heads", "Heads", "one layer, head by head", this.strip) : null,
      this.section("patch", "Patch", "one patch over layers and timesteps", this.inspector),
      this.section("options", "Options", "softmax, colours, panels", options)
    );
    this.sections.hidden = meta.controls === false;
    this.root.classList.toggle("wb-follows", meta.controls === false);
    this.root.append(
      h("header.wb-head", {}, this.title, this.glance, this.tools),
      this.coding, this.saving, this.help, this.failed, this.notice, this.controls, this.rest, this.grid, this.problem,
      h("div.wb-foot", {}, h("div.wb-scales", {}, this.bar.element, this.options.lock.element), this.differenceBar.element, this.legend),
      this.readout, this.spoken, this.notes, this.sections
    );
  }

  buildControls() {
    const { store } = this;
    const { meta } = store;
    const groups = [];
    for (const block of meta.blocks) {
      if (groups.at(-1)?.[0] === block) groups.at(-1)[1] += 1;
      else groups.push([block, 1]);
    }
    this.hatched = h("span.wb-hint", {}, groups.length > 1 ? ` (hatched: ${groups[1][0]}-stream blocks)` : "");
    const row = (name, slider, extra = null) => {
      const text = h("span.wb-chosen-text", {});
      const play = button("▶", { data: { control: `play-${name}` }, "aria-label": `Play over ${name}`, title: `Play over ${name}`, onclick: () => this.play(name) });
      play.hidden = slider.count < 2;
      this[name] = { slider, text, play };
      return h("div.wb-control", {}, h("div.wb-control-head", {}, text, play), slider.element, extra);
    };
    const layers = new RangeSlider({
      name: "Layers",
      controls: ["layers-low", "layers-window", "layers-high"],
      texts: meta.layers.map(plain),
      groups,
      onchange: (first, last) => store.change({ layers: [meta.layers[first], meta.layers[last]] }),
    });
    const timesteps = new RangeSlider({
      name: "Timesteps",
      controls: ["timesteps-high", "timesteps-window", "timesteps-low"],
      texts: meta.timesteps.map((timestep) => plain(Math.round(timestep * 10) / 10)),
      onchange: (first, last) => store.change({ timesteps: [meta.timesteps[first], meta.timesteps[last]] }),
    });
    const rows = [row("layers", layers), row("timesteps", timesteps)];
    if (meta.frames.length) {
      this.frame = single({
        control: "frame", label: "Frame", low: 0, high: meta.frames.length - 1, step: 1,
        write: (at) => `${meta.frames[at]} of ${meta.frames[0]}–${meta.frames.at(-1)}`,
        onchange: (at) => store.change({ frame: meta.frames[at] }),
      });
      rows.push(h("div.wb-control", {}, this.frame.element));
    }
    const { space, sample } = this.options;
    this.formula = h("span.wb-hint", { data: { about: "space" } });
    return h("div.wb-controls", {}, ...rows, h("div.wb-choices", {}, space.element, sample.element, this.formula));
  }

  buildOptions() {
    const { store } = this;
    const { meta } = store;
    const spaces = Object.keys(meta.spaces).map((space) => [space, space]);
    const samples = meta.samples.map((sample, i) => [sample, `${sample}${meta.seeds[i] === undefined ? "" : ` (seed ${meta.seeds[i]})`}`]);
    const some = (value) => (value === "" ? null : Number(value));
    const o = (this.options = {
      space: choice("space", "Space", spaces, (space) => store.setSpace(space)),
      reduce: choice("reduce", "Softmax over concepts", REDUCTION_NAMES, (reduce) => store.change({ reduce, limits: null })),
      sample: choice("sample", "Noise sample", [["", "mean of all"], ...samples], (value) => store.change({ sample: some(value) })),
      cmap: choice("cmap", "Colours", ["auto", ...Object.keys(MAPS)].map((name) => [name, name]), (cmap) => store.change({ cmap })),
      opacity: single({ control: "opacity", label: "Opacity", low: 0, high: 1, step: 0.05, write: (value) => `${Math.round(value * 100)} %`, onchange: (opacity) => store.change({ opacity }) }),
      smooth: tick("smooth", "Smooth", (smooth) => store.change({ smooth })),
      picture: tick("picture", "Picture under the maps", (picture) => store.change({ picture })),
      lock: tick("lock", "Lock the colour scale", (on) => store.change({ limits: on && store.maps ? store.scale().limits : null })),
      one: choice("difference-a", "Difference of", [], () => this.setDifference()),
      other: choice("difference-b", "minus", [], () => this.setDifference()),
      shown: h("div.wb-chips", { role: "group", "aria-label": "Panels shown" }),
    });
    if (meta.samples.length < 2) o.sample.element.hidden = true;
    if (spaces.length < 2) o.space.element.hidden = true;
    o.space.element.title = "What is compared with what; the heading says which one is shown";
    o.element = h(
      "div.wb-body.wb-options",
      {},
      o.reduce.element, o.cmap.element, o.opacity.element,
      h("div.wb-ticks", {}, o.smooth.element, o.picture.element),
      o.one.element, o.other.element,
      h("div.wb-field.wb-wide", {}, h("span", {}, "Panels"), o.shown)
    );
    return o;
  }

  setDifference() {
    const [one, other] = [this.options.one.select.value, this.options.other.select.value];
    this.store.change({ difference: one === "" || other === "" ? null : [Number(one), Number(other)] });
  }

  section(name, title, hint, part) {
    const summary = h("summary", { tabindex: 0 }, h("span.wb-section-title", {}, title), h("span.wb-hint", {}, hint));
    const element = h("details.wb-section", { data: { section: name } }, summary, part.element);
    // The browser tells of a toggle a moment later, and a change in between would fold the section again.
    summary.addEventListener("click", (event) => {
      event.preventDefault();
      this.flip(name);
    });
    element.addEventListener("toggle", () => {
      const { open } = this.store.state;
      if (element.open !== open.includes(name)) this.flip(name); // found by the browser's own search, say
    });
    part.fold = element;
    return element;
  }

  /** What tests and scripts may read; nothing in here is needed to draw. */
  hooks() {
    const { store } = this;
    return {
      get state() { return structuredClone(store.state); },
      get maps() {
        if (!store.maps) return null;
        const [low, high] = store.scale().limits;
        return { values: store.maps, shape: [store.concepts, store.rows, store.columns], low, high };
      },
      get labels() { return store.labels; },
      get code() { return store.code(); },
      get times() { return { changed: store.changedAt, painted: store.paintedAt }; },
      set: (patch) => store.change(patch),
      snapshot: () => snapshot(this),
      settled: async () => {
        while (store.painted !== store.revision) await new Promise((resolve) => setTimeout(resolve, 5));
      },
    };
  }

  // --- following the store -----------------------------------------------------------------------------------

  update(what) {
    this.guard(() => {
      if (what === "state") this.follow();
      else if (what === "paint") this.paint();
      else if (what === "slow") this.unfold();
      else if (what === "picture") this.painter.setPicture(this.store.bitmap);
      else if (what === "panels") {
        this.truthLabels = null;
        this.arrangePanels();
      }
      this.stamp();
    });
  }

  stamp() {
    const { store } = this;
    const now = { revision: store.revision, painted: store.painted, source: store.source ?? "", cube: store.cubeState, live: store.live };
    for (const [name, value] of Object.entries(now)) {
      if (this.root.dataset[name] !== String(value)) this.root.dataset[name] = value;
    }
  }

  /** Bring every control to the state. */
  follow() {
    const { store } = this;
    const { state, meta } = store;
    const chosen = store.chosen();
    const ends = (positions) => [positions[0], positions.at(-1)];
    this.layers.slider.set(...ends(chosen.layers));
    this.timesteps.slider.set(...ends(chosen.timesteps));
    const blocks = [...new Set(chosen.layers.map((index) => meta.blocks[index]).filter(Boolean))];
    const kinds = blocks.length ? `${blocks.join(" and ")} block${chosen.layers.length > 1 ? "s" : ""}` : "";
    const [first, last] = ends(chosen.timesteps);
    this.layers.text.replaceChildren(h("b", {}, chosen.layers.length > 1 ? "Layers " : "Layer "), h("b.wb-now", {}, span(...state.layers)), kinds ? ` · ${kinds}` : "", this.hatched);
    this.timesteps.text.replaceChildren(
      h("b", {}, chosen.timesteps.length > 1 ? "Timesteps " : "Timestep "),
      h("b.wb-now", {}, span(...state.timesteps, (value) => plain(Math.round(value * 10) / 10))),
      ` · σ ${span(meta.sigmas[first], meta.sigmas[last])}`
    );
    this.frame?.set(meta.frames.indexOf(state.frame));
    const o = this.options;
    o.space.select.value = state.space;
    this.formula.textContent = SPACE_MEANINGS[state.space] ?? "";
    o.reduce.select.value = state.reduce;
    o.sample.select.value = state.sample ?? "";
    o.cmap.select.value = state.cmap;
    o.opacity.set(state.opacity);
    o.smooth.input.checked = state.smooth;
    o.picture.input.checked = state.picture;
    o.lock.input.checked = state.limits !== null;
    this.sections.querySelectorAll("details").forEach((element) => {
      element.open = state.open.includes(element.dataset.section);
    });
    const heading = this.heading();
    const headed = heading.map((part) => part.textContent).join("\n");
    if (headed !== this.headed) this.title.replaceChildren(...heading);
    this.headed = headed;
    this.arrangePanels();
    if (!this.coding.hidden) this.code.textContent = store.code();
  }

  heading() {
    const { store } = this;
    const { state, meta } = store;
    const noun = state.space === "prompt" ? "token" : "concept";
    const count = store.names.length;
    const parts = [`${count} ${noun}${count > 1 ? "s" : ""}`, `${state.space} space`];
    if (state.heads) parts.push(`head${state.heads.length > 1 ? "s" : ""} ${state.heads.join(", ")}`);
    if (meta.samples.length > 1) parts.push(state.sample === null ? `mean of ${meta.samples.length} samples` : `sample ${state.sample}`);
    if (meta.model) parts.push(meta.model);
    return [
      ...(meta.title ? [h("span.wb-subject.wb-letter", {}, meta.title)] : []),
      h("span.wb-subject", {}, parts[0]),
      h("span.wb-hint", {}, parts.slice(1).join(" · ")),
      ...(meta.edit ? [h("span.wb-edit", {}, `edited: ${meta.edit}`)] : []),
      ...(meta.prompt ? [h("span.wb-hint.wb-prompt", {}, `prompt: “${meta.prompt}”`)] : []),
    ];
  }

  /** What is on screen, in a line. */
  sentence() {
    return `${this.heading().map((part) => part.textContent).join(" · ")} · ${this.layers.text.textContent.replace(this.hatched.textContent, "")} · ${this.timesteps.text.textContent}`;
  }

  meaning() {
    const { state, names } = this.store;
    if (state.reduce === "mean") return `${state.space} score`;
    return `share among ${names.length} ${state.space === "prompt" ? "tokens" : "concepts"}`;
  }

  /** Make the panels when other ones are wanted. */
  arrangePanels() {
    const { store } = this;
    const { state, meta, names, shown } = store;
    const wanted = JSON.stringify([state.space, shown, state.difference, meta.picture, Boolean(store.truth) && state.space !== "prompt"]);
    if (wanted !== this.arranged) {
      this.arranged = wanted;
      const panels = [];
      if (meta.picture) panels.push(new Panel("picture", "picture"));
      for (const index of shown) {
        panels.push(new Panel("concept", names[index], { index, colour: conceptColour(index), onpick: () => this.pick(index) }));
      }
      if (state.difference) panels.push(new Panel("difference", state.difference.map((index) => names[index]).join(" − ")));
      if (names.length > 1) panels.push(new Panel("segmentation", "segmentation"));
      if (store.truth && state.space !== "prompt") panels.push(new Panel("truth", "truth"));
      for (const panel of panels) this.listen(panel);
      this.panels = panels;
      this.grid.replaceChildren(...panels.map((panel) => panel.element));
      this.colours = names.map((_, index) => rgbOf(conceptColour(index)));
      this.buildLegend();
      this.laidOut = null;
      this.layout();
    }
    for (const panel of this.panels) panel.element.classList.toggle("wb-picked", panel.kind === "concept" && panel.index === state.focus);
  }

  buildLegend() {
    const { store } = this;
    const { names, state } = store;
    this.shares = names.map(() => h("span.wb-value", {}));
    this.legend.replaceChildren(
      ...names.map((name, index) =>
        h("button.wb-chip", { type: "button", data: { conceptChip: index }, onclick: () => this.pick(index), title: `Pick ${name}` },
          h("span.wb-swatch", { style: { background: conceptColour(index) } }), h("span", {}, name), this.shares[index])
      )
    );
    this.legend.hidden = names.length < 2;
    const o = this.options;
    const every = names.map((name, index) => [index, name]);
    o.one.set([["", "none"], ...every]);
    o.other.set([["", "none"], ...every]);
    o.shown.replaceChildren(...every.map(([index, name]) => {
      const chip = tick(`panel-${index}`, name, () => this.toggleConcept(index));
      chip.input.dataset.shows = index;
      return chip.element;
    }));
    if (state.difference) [o.one.select.value, o.other.select.value] = state.difference;
  }

  toggleConcept(index) {
    const { shown, names } = this.store;
    const next = shown.includes(index) ? shown.filter((other) => other !== index) : [...shown, index].sort((a, b) => a - b);
    this.store.change({ concepts: next.length === names.length ? null : next.length ? next : [index] });
  }

  /** Pick a concept; picking it again lets it go. */
  pick(index) {
    this.store.change({ focus: this.store.state.focus === index ? null : index });
  }

  layout() {
    const width = this.root.clientWidth - 24;
    if (width <= 0) return;
    const ratio = this.store.rows / this.store.columns;
    const wanted = `${width} ${window.devicePixelRatio} ${this.panels.length}`;
    if (wanted === this.laidOut) return;
    this.laidOut = wanted;
    this.arrangement = arrange(this.panels.length, width, ratio);
    this.grid.style.gridTemplateColumns = `repeat(${this.arrangement.columns}, ${this.arrangement.side}px)`;
    for (const panel of this.panels) panel.resize(this.arrangement.side, ratio);
    this.root.classList.toggle("wb-narrow", width < 760);
    this.root.classList.toggle("wb-roomy", width > 1250);
    for (const name of ["layers", "timesteps"]) this[name].slider.layout(this[name].slider.track.clientWidth);
    this.store.schedule();
    this.unfold();
  }

  // --- painting ----------------------------------------------------------------------------------------------

  paint() {
    const { store, painter } = this;
    const { state, maps, labels, patches } = store;
    this.problem.hidden = !store.error;
    this.problem.textContent = sentence(store.error);
    this.grid.classList.toggle("wb-empty", !maps);
    const scale = maps ? store.scale() : null;
    const difference = store.difference();
    for (const panel of this.panels) {
      if (panel.kind === "picture") painter.picture(panel);
      else if (panel.kind === "truth") painter.areas(panel, (this.truthLabels ??= this.trueLabels()), this.colours, state);
      else if (!maps) painter.ground(panel.canvas, state.picture ? painter.pictures.grey : null);
      else if (panel.kind === "concept") {
        painter.map(panel, maps.subarray(panel.index * patches, (panel.index + 1) * patches), scale.limits, scale.cmap, state);
      } else if (panel.kind === "difference") painter.map(panel, difference.values, difference.limits, "diverging", state);
      else painter.areas(panel, labels, this.colours, state, state.focus);
      if (state.pin) painter.mark(panel, state.pin, true);
      if (this.hover) painter.mark(panel, this.hover, false);
    }
    if (scale) {
      const shown = `${scale.cmap} ${scale.limits} ${this.meaning()}`;
      if (shown !== this.scaled) this.bar.show(scale.cmap, scale.limits, this.meaning());
      this.scaled = shown;
    }
    this.differenceBar.element.hidden = !difference;
    if (difference) this.differenceBar.show("diverging", difference.limits, "difference");
    this.read();
  }

  /** The true concept of each patch: the one with the most pixels, if they are half of it. */
  trueLabels() {
    const { truth, area, patches } = this.store;
    const best = strongest(truth, truth.length / patches, patches);
    return best.map((label, patch) => (area[patch] && truth[label * patches + patch] * 2 >= area[patch] ? label : -1));
  }

  /** The values where the pointer is (else at the pin), in the captions and in a line. */
  read() {
    const { store } = this;
    const at = this.hover ?? store.state.pin;
    const value = (index) => store.maps[index * store.patches + at[0] * store.columns + at[1]];
    for (const panel of this.panels) {
      panel.value.textContent = at && store.maps && panel.kind === "concept" ? mapValue(value(panel.index), store.state.reduce) : "";
    }
    if (!at || !store.maps) {
      this.readout.textContent = "Point at a patch to read its values; click to pin it.";
      return;
    }
    const order = [...store.names.keys()].sort((a, b) => value(b) - value(a));
    const most = order.slice(0, 6).map((index) => `${store.names[index]} ${mapValue(value(index), store.state.reduce)}`);
    this.readout.textContent = `Row ${at[0]}, column ${at[1]}: ${most.join(" · ")}${order.length > 6 ? " · …" : ""}`;
  }

  /** What may follow a little later: figures, notes, and the parts that are unfolded. */
  unfold() {
    const { store } = this;
    const { state } = store;
    const glance = store.glance();
    this.glance.hidden = !glance;
    if (glance) {
      this.glance.dataset.value = glance.value;
      this.glance.title = glance.title;
      this.glance.replaceChildren(h("span.wb-hint", {}, glance.name), h("b", {}, glance.text));
    }
    if (store.labels) {
      const counts = new Array(store.names.length).fill(0);
      for (const label of store.labels) if (label >= 0) counts[label] += 1;
      this.shares.forEach((share, index) => {
        share.textContent = `${Math.round((100 * counts[index]) / store.patches)} %`;
        share.parentElement.title = `${store.names[index]}: the strongest at ${share.textContent} of the patches. Click to pick it.`;
      });
      this.tellRest(counts);
    }
    for (const chip of this.legend.children) chip.setAttribute("aria-pressed", String(Number(chip.dataset.conceptChip) === state.focus));
    for (const input of this.options.shown.querySelectorAll("input")) input.checked = store.shown.includes(Number(input.dataset.shows));
    for (const panel of this.panels) {
      if (panel.kind !== "concept" || !store.maps) continue;
      const [low, high] = extent(store.maps, store.patches, [panel.index]);
      panel.canvas.setAttribute("aria-label", `Map of ${panel.title}, ${number(low)} to ${number(high)}`);
    }
    this.notes.replaceChildren(...[...store.meta.remarks, ...store.notes].map((text) => h("p.wb-note", {}, sentence(text))));
    const quiet = !store.live || store.silent;
    this.notice.hidden = !quiet;
    if (quiet) {
      this.notice.textContent = store.maps
        ? "The kernel does not answer: it is busy, or gone. What the browser holds still works; after a restart, run the cell again."
        : "No answer from the kernel: it is busy, or this notebook was reopened. Run the cell again to bring the view back.";
    }
    const width = this.sections.clientWidth - 24;
    for (const part of [this.overview, this.strip, this.inspector]) {
      if (part.fold?.open) this.guard(() => part.update(Math.min(width, part.element.clientWidth - 24 || width)));
    }
  }

  /** Say which concepts have no panel, how much of the picture is theirs, and show them on request. */
  tellRest(counts) {
    const { store } = this;
    const { shown, names } = store;
    const hidden = names.length - shown.length;
    this.rest.hidden = !hidden;
    if (!hidden) return;
    const area = names.reduce((sum, _, index) => sum + (shown.includes(index) ? 0 : counts[index]), 0);
    const largest = [...names.keys()].sort((a, b) => counts[b] - counts[a]).slice(0, shown.length).sort((a, b) => a - b);
    const text = `${shown.length} of ${names.length} shown; the others are strongest at ${Math.round((100 * area) / store.patches)} % of the patches. `;
    if (text === this.rest.dataset.text) return;
    this.rest.dataset.text = text;
    this.rest.replaceChildren(
      text,
      button("Show all", { data: { control: "show-all" }, onclick: () => store.change({ concepts: null }) }),
      " ",
      button(`Show the ${shown.length} with the largest areas`, { data: { control: "show-largest" }, onclick: () => store.change({ concepts: largest }) })
    );
  }

  // --- pointer and keys --------------------------------------------------------------------------------------

  listen(panel) {
    const { canvas } = panel;
    const patchOf = (event) => {
      const box = canvas.getBoundingClientRect();
      const place = (at, start, size, count) => Math.min(Math.max(Math.floor(((at - start) / size) * count), 0), count - 1);
      return [place(event.clientY, box.top, box.height, this.store.rows), place(event.clientX, box.left, box.width, this.store.columns)];
    };
    canvas.addEventListener("pointermove", (event) => this.point(patchOf(event)));
    canvas.addEventListener("pointerleave", () => this.point(null));
    canvas.addEventListener("click", (event) => {
      this.root.focus({ preventScroll: true });
      this.pin(patchOf(event));
    });
  }

  point(patch) {
    if (String(patch) === String(this.hover)) return;
    this.hover = patch;
    this.store.schedule();
  }

  pin(patch) {
    const same = String(this.store.state.pin) === String(patch);
    const { open } = this.store.state;
    this.store.change({ pin: same ? null : patch, open: same || open.includes("patch") ? open : [...open, "patch"] });
  }

  play(name) {
    const same = this.playing?.name === name;
    this.stop();
    if (same) return;
    const { slider, play } = this[name];
    if (slider.count < 2) return;
    slider.step(0);
    // One scale for all steps, or their colours could not be compared: all of it for shares, for scores the present one.
    const { limits: held, reduce } = this.store.state;
    if (!held && this.store.maps) this.store.change({ limits: reduce === "mean" ? this.store.scale().limits : [0, 1] });
    const timer = setInterval(() => {
      if (this.store.painted === this.store.revision) this.guard(() => slider.move(1, true));
    }, PLAY_PAUSE);
    this.playing = { name, timer, held };
    play.textContent = "❚❚";
    play.setAttribute("aria-pressed", "true");
  }

  stop() {
    if (!this.playing) return;
    clearInterval(this.playing.timer);
    const { name, held } = this.playing;
    const { play } = this[name];
    play.textContent = "▶";
    play.removeAttribute("aria-pressed");
    this.playing = null;
    this.store.change({ limits: held });
  }

  toggle(drawer) {
    for (const other of [this.coding, this.saving, this.help]) other.hidden = other === drawer ? !other.hidden : true;
    for (const [control, other] of [["save", this.saving], ["help", this.help]]) {
      this.tools.querySelector(`[data-control=${control}]`).setAttribute("aria-expanded", String(!other.hidden));
    }
  }

  async copy() {
    if (this.coding.hidden) this.toggle(this.coding);
    this.code.textContent = this.store.code();
    try {
      await navigator.clipboard.writeText(this.code.textContent);
      this.copied.textContent = `Copied: ${this.needs()}`;
    } catch (error) {
      this.copied.textContent = `Select and copy: ${this.needs()}`;
    }
  }

  /** What copied code needs to run. */
  needs() {
    const { source, variable } = this.store.meta;
    return source ? "it runs as it stands." : `it expects your dataset in a variable called ${variable}.`;
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest?.("input, select, textarea") && event.key !== "Escape") return;
    const pressing = event.target.closest?.("button, summary");
    if (pressing && (event.key === " " || event.key === "Enter")) return;
    const { store } = this;
    const arrows = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
    const letters = {
      o: () => this.flip("overview"),
      h: () => this.flip("heads"),
      i: () => this.flip("patch"),
      m: () => this.flip("options"),
      s: () => store.change({ smooth: !store.state.smooth }),
      p: () => store.change({ picture: !store.state.picture }),
      c: () => this.copy(),
      "?": () => this.toggle(this.help),
      Escape: () => this.escape(),
      " ": () => this.play(event.shiftKey ? "layers" : "timesteps"),
      Enter: () => this.hover && this.pin(this.hover),
    };
    let action = letters[event.key];
    if (/^[1-9]$/.test(event.key) && Number(event.key) <= store.names.length) action = () => this.pick(Number(event.key) - 1);
    if (event.key in arrows) {
      const [down, right] = arrows[event.key];
      if (event.shiftKey) action = () => this.walk(down, right);
      else if (right) action = () => this.timesteps.slider.step(right);
      else action = () => this.layers.slider.step(-down);
    }
    if (!action) return;
    event.preventDefault();
    event.stopPropagation();
    action();
    clearTimeout(this.speaking);
    const walked = event.key in arrows && event.shiftKey;
    this.speaking = setTimeout(() => {
      this.spoken.textContent = walked || event.key === "Enter" ? this.readout.textContent : this.sentence();
    }, 300);
  }

  walk(down, right) {
    const { rows, columns, state } = this.store;
    const [row, column] = this.hover ?? state.pin ?? [Math.floor(rows / 2), Math.floor(columns / 2)];
    this.point([Math.min(Math.max(row + down, 0), rows - 1), Math.min(Math.max(column + right, 0), columns - 1)]);
  }

  flip(name) {
    const { open } = this.store.state;
    this.store.change({ open: open.includes(name) ? open.filter((other) => other !== name) : [...open, name] });
  }

  escape() {
    const drawers = [this.coding, this.saving, this.help].filter((drawer) => !drawer.hidden);
    if (drawers.length) this.toggle(drawers[0]);
    else if (this.playing) this.stop();
    else if (this.hover) this.point(null);
    else if (this.store.state.pin) this.store.change({ pin: null });
  }
}

export default () => {
  let store = null;
  return {
    initialize({ model }) {
      store = new Store(model);
      return () => store.dispose();
    },
    render({ model, el }) {
      store ??= new Store(model);
      const view = new View(store, el);
      return () => view.dispose();
    },
  };
};
