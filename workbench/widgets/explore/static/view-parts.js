// The parts of a view: the head, the controls, the options, and what unfolds.

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
  ["?", "the tour, and these keys"],
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

class ViewParts {
  build() {
    const { store } = this;
    const { meta } = store;
    const leads = meta.controls !== false; // the others of compared views follow it
    this.title = h("div.wb-title", {});
    this.glance = h("div.wb-glance", {});
    this.tools = h(
      "div.wb-tools",
      {},
      button("Code", { data: { control: "code" }, title: "Copy as code (c)", onclick: () => this.copy() }),
      button("Save", { data: { control: "save" }, "aria-expanded": "false", onclick: () => this.toggle(this.saving) }),
      button("?", { data: { control: "help" }, "aria-label": "Help: tour and keys", title: "Tour and keys (?)", "aria-expanded": "false", onclick: () => this.toggle(this.help) })
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
    this.tour = new Tour(store, this.root);
    const around = button("Show me around", { data: { control: "tour" }, onclick: () => {
      this.toggle(this.help);
      this.tour.begin();
    } });
    this.help = h("div.wb-drawer.wb-keys", { hidden: true }, h("span", {}, around), h("span.wb-hint", {}, "what each part shows, in a minute"), ...KEYS.flatMap(([keys, what]) => [h("kbd", {}, keys), h("span", {}, what)]));
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
      meta.heads.length && leads ? this.section("heads", "Heads", "one layer, head by head", this.strip) : null,
      this.section("patch", "Patch", "one patch over layers and timesteps", this.inspector),
      leads ? this.section("options", "Options", "softmax, colours, panels", options) : null
    );
    this.root.classList.toggle("wb-follows", !leads);
    this.root.append(
      h("header.wb-head", {}, this.title, this.glance, this.tools),
      this.coding, this.saving, this.help, this.tour.element, this.failed, this.notice, this.controls, this.rest, this.grid, this.problem,
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
    // Without sliders there is nothing hatched; the room stays, so that compared views stand level.
    this.hatched = h("span.wb-hint", { style: { visibility: meta.controls === false ? "hidden" : "" } }, groups.length > 1 ? ` (hatched: ${groups[1][0]}-stream blocks)` : "");
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
}
