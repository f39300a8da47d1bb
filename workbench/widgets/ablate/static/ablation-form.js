// What is asked for: the fields of a sweep and of an intervention, and truth drawn by hand.

const OVER_SIGN = " × ";
const OVER_TEXTS = { intervention: "nothing: one for all", mode: "way to attend" };
const MODE_TEXTS = { both: "picture and concepts", image: "the picture", concepts: "one another", none: "nothing" };

/** How many things a typed list holds: "0, 2-4" are four. */
function listed(text) {
  const parts = text.split(",").map((part) => part.trim()).filter(Boolean);
  return parts.reduce((sum, part) => {
    const [, first, last] = part.match(/^(\d+)\s*[-–]\s*(\d+)$/) ?? [];
    return sum + (first ? Math.max(0, last - first + 1) : 1);
  }, 0);
}

/** Two lists: the first and the last label of a range. */
class Range {
  constructor(name, label, labels, onchange) {
    this.name = name;
    const options = labels.map((value) => [JSON.stringify(value), plain(value)]);
    const end = (which) => h("select.wb-select", { data: { control: `${name}-${which}` }, "aria-label": `${label}, ${which}`, onchange: () => onchange([JSON.parse(this.first.value), JSON.parse(this.last.value)]) });
    [this.first, this.last] = [end("first"), end("last")];
    for (const select of [this.first, this.last]) select.replaceChildren(...options.map(([value, text]) => h("option", { value }, text)));
    this.element = h("div.wb-field", {}, h("span", {}, label), h("span.wb-range", {}, this.first, h("span", {}, "to"), this.last));
  }

  set([first, last]) {
    this.first.value = JSON.stringify(first);
    this.last.value = JSON.stringify(last);
  }
}

/** Patches of a concept, clicked in the picture. */
class Drawing {
  constructor({ names, grid }, onchange) {
    Object.assign(this, { names, rows: grid[0], columns: grid[1], onchange, drawn: {}, at: [0, 0] });
    this.painter = new Painter(...grid);
    this.concept = choice("draw-concept", "Draw where this is", names.map((name) => [name, name]), () => this.paint());
    const sizes = [1, 3, 5, 9].filter((size) => size === 1 || 4 * size <= Math.max(...grid));
    this.brush = choice("draw-brush", "Brush", sizes.map((size) => [size, size === 1 ? "one patch" : `${size} × ${size} patches`]), () => this.paint());
    this.brush.select.value = sizes.findLast((size) => 16 * size <= Math.max(...grid)) ?? 1;
    this.brush.element.hidden = sizes.length < 2;
    this.wipe = button("Clear", { data: { control: "draw-clear" }, onclick: () => this.set({ ...this.drawn, [this.name]: [] }) });
    this.canvas = h("canvas.wb-canvas", { tabindex: 0, role: "application", "aria-roledescription": "picture to draw on", data: { control: "draw" } });
    this.note = h("p.wb-hint", { "aria-live": "polite" });
    this.element = h("div.wb-drawing", {}, this.canvas, h("div.wb-side", {}, this.concept.element, this.brush.element, h("div.wb-row", {}, this.wipe), this.note));
    this.canvas.addEventListener("pointerdown", (event) => this.grab(event));
    this.canvas.addEventListener("keydown", (event) => this.key(event));
  }

  get name() {
    return this.concept.select.value;
  }

  setPicture(bitmap) {
    this.painter.setPicture(bitmap);
    this.paint();
  }

  show(drawn) {
    this.drawn = drawn;
    this.paint();
  }

  set(drawn) {
    this.drawn = Object.fromEntries(Object.entries(drawn).filter(([, patches]) => patches.length));
    this.paint();
    this.onchange(this.drawn);
  }

  has([row, column]) {
    return (this.drawn[this.name] ?? []).some(([r, c]) => r === row && c === column);
  }

  /** How many patches the brush is wide. */
  get across() {
    return Number(this.brush.select.value);
  }

  put([row, column], wanted) {
    const held = new Map((this.drawn[this.name] ?? []).map((patch) => [patch.join(), patch]));
    const before = held.size;
    const reach = (this.across - 1) / 2;
    for (let r = Math.max(row - reach, 0); r <= Math.min(row + reach, this.rows - 1); r++) {
      for (let c = Math.max(column - reach, 0); c <= Math.min(column + reach, this.columns - 1); c++) {
        if (wanted) held.set(`${r},${c}`, [r, c]);
        else held.delete(`${r},${c}`);
      }
    }
    if (held.size !== before) this.set({ ...this.drawn, [this.name]: [...held.values()] });
  }

  grab(event) {
    const place = (at) => {
      const box = this.canvas.getBoundingClientRect();
      const inside = (value, count) => Math.min(Math.max(Math.floor(value * count), 0), count - 1);
      return [inside((at.clientY - box.top) / box.height, this.rows), inside((at.clientX - box.left) / box.width, this.columns)];
    };
    if (event.button !== 0) return;
    event.preventDefault();
    this.canvas.focus({ preventScroll: true });
    this.canvas.setPointerCapture(event.pointerId);
    const wanted = !this.has(place(event));
    const move = (at) => this.put((this.at = place(at)), wanted);
    move(event);
    this.canvas.addEventListener("pointermove", move);
    this.canvas.addEventListener("pointerup", () => this.canvas.removeEventListener("pointermove", move), { once: true });
  }

  key(event) {
    const by = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] }[event.key];
    if (!by && event.key !== " ") return;
    event.preventDefault();
    event.stopPropagation();
    if (by) {
      const sizes = [this.rows, this.columns];
      this.at = this.at.map((at, i) => Math.min(Math.max(at + by[i], 0), sizes[i] - 1));
      this.paint();
    } else this.put(this.at, !this.has(this.at));
  }

  paint() {
    const panel = { canvas: this.canvas };
    const width = 220;
    const [high, wide] = [Math.round((width * this.rows) / this.columns), width].map((side) => Math.round(side * (window.devicePixelRatio || 1)));
    Object.assign(this.canvas, { width: wide, height: high });
    Object.assign(this.canvas.style, { width: `${width}px`, height: `${(width * this.rows) / this.columns}px` });
    const labels = new Int16Array(this.rows * this.columns).fill(-1);
    for (const [name, patches] of Object.entries(this.drawn)) for (const [r, c] of patches) labels[r * this.columns + c] = this.names.indexOf(name);
    const focus = this.names.indexOf(this.name);
    this.painter.areas(panel, labels, this.names.map((_, i) => rgbOf(conceptColour(i))), { opacity: 0.75, picture: Boolean(this.painter.pictures.grey) }, focus);
    this.painter.mark(panel, this.at, this.has(this.at), this.across);
    const count = (this.drawn[this.name] ?? []).length;
    this.canvas.setAttribute("aria-label", `Picture of ${this.rows} by ${this.columns} patches; row ${this.at[0]}, column ${this.at[1]} (counted from 0).`);
    this.note.textContent = `${count} of ${labels.length} patches are “${this.name}”. Click or drag; arrow keys move, space draws. What is drawn for no concept counts as none of them.`;
  }
}

/** The fields of one mode. */
class Form {
  constructor(mode, known, change, ask) {
    Object.assign(this, { mode, known, change, ask });
    this.fields = mode === "sweep" ? this.sweepFields() : this.interventionFields();
    this.drawing = known.grid ? new Drawing(known, (drawn) => change({ drawn })) : null;
    this.hint = h("p.wb-hint", {});
    this.meaning = h("p.wb-hint", {});
    this.element = h("div.wb-form", {}, h("div.wb-options", {}, ...Object.values(this.fields).map((field) => field.element)), this.prompts, this.meaning, this.hint, this.drawing?.element);
  }

  over(list) {
    return list.map((dims) => [dims.join(OVER_SIGN), OVER_TEXTS[dims.join(OVER_SIGN)] ?? dims.join(OVER_SIGN)]);
  }

  range(name, label, labels = this.known[name]) {
    return new Range(name, label, labels, (ends) => this.change({ [name]: ends }));
  }

  sweepFields() {
    const { known, change } = this;
    return {
      over: choice("over", "Over", this.over(known.over), (text) => {
        const over = text.split(OVER_SIGN);
        const how = this.hows(over).some(([name]) => name === this.form.how) ? this.form.how : "only";
        change({ over, how, layers: null, timesteps: null });
      }),
      how: choice("how", "How", known.hows, (how) => change({ how })),
      window: amount("window", "Neighbours", { min: 1 }, (window) => change({ window })),
      metric: choice("metric", "Metric", known.metrics.map(([name, text]) => [name, text]), (metric) => change({ metric })),
      truth: choice("truth", "Truth", [...(known.truth ? [["own", "the dataset’s own"]] : []), ["drawn", "drawn here"]], (truth) => change({ truth })),
      space: choice("space", "Space", known.spaces.map((space) => [space, space]), (space) => change({ space })),
      layers: this.range("layers", "Layers"),
      timesteps: this.range("timesteps", "Timesteps"),
    };
  }

  hows(over) {
    const { hows, ordered } = this.known;
    return hows.filter(([how]) => !(over.includes("space") && ordered.includes(how)) && !(how === "greedy" && (over.length > 1 || over[0] === "space")));
  }

  interventionFields() {
    const { known, change } = this;
    const truths = [["none", "the unedited run’s"], ...(known.truth ? [["own", "the dataset’s own"]] : []), ...(known.grid ? [["drawn", "drawn here"]] : [])];
    const all = { placeholder: "all" };
    this.prompts = h("datalist", { id: `wb-prompts-${(Form.count = (Form.count ?? 0) + 1)}` });
    return {
      edit: choice("edit", "Edit", known.edits.map(({ name, text }) => [name, text]), (edit) => {
        const { over } = known.edits.find(({ name }) => name === edit);
        const same = over.some((dims) => dims.join() === this.form.over.join());
        change({ edit, over: same ? this.form.over : over[0], factor: null, width: null, streams: null });
      }),
      over: choice("over", "One for each", [], (text) => change({ over: text.split(OVER_SIGN) })),
      factor: amount("factor", "Factor (1 changes nothing)", { step: "any" }, (factor) => change({ factor })),
      width: amount("width", "Width in patches", { min: 0, step: "any" }, (width) => change({ width })),
      mode: choice("mode", "Concepts see", known.modes.map((mode) => [mode, MODE_TEXTS[mode] ?? mode]), (mode) => change({ mode })),
      layers: this.range("layers", "Layers"),
      heads: entry("heads", "Heads", { ...all, title: "Numbers and ranges, such as 0, 2-4; nothing for all" }, (heads) => change({ heads })),
      timesteps: this.range("timesteps", "Timesteps", this.times),
      tokens: entry("tokens", "Prompt tokens", { ...all, title: "Words of the prompt, or places in the text, such as red, heart, 7-9; nothing for all" }, (tokens) => change({ tokens })),
      streams: choice("streams", "Streams", known.streams.map((name) => [name, name]), (streams) => change({ streams })),
      prompt: entry("prompt", "Other run: prompt", { placeholder: "the same", list: this.prompts.id, title: "Typed, or one of the stored runs'" }, (prompt) => change({ prompt })),
      seed: amount("seed", "Other run: seed", { min: 0 }, (seed) => change({ seed })),
      image: entry("image", "Other run: picture", { placeholder: "the same; or a file" }, (image) => change({ image })),
      control: choice("control", "Controls", known.controls, (control) => change({ control })),
      references: entry("references", known.prompted ? "Other prompts" : "Other images", { placeholder: known.prompted ? "a cat; a house" : "one.png; other.png", title: "With semicolons between them" }, (references) => change({ references })),
      repeats: amount("repeats", "Repeats of each control", { min: 1, max: 1000 }, (repeats) => change({ repeats })),
      readout: entry("readout", "Read in layers", { placeholder: "behind all edits", title: "Numbers and ranges such as 4 or 9-18, the same for all edits, or downstream: for each edit all layers behind it" }, (readout) => change({ readout })),
      truth: choice("truth", "Truth of the IoU", truths, (truth) => change({ truth })),
    };
  }

  /** Ends of a range of timesteps: the captured ones, or round values where none are known yet. */
  get times() {
    const { timesteps } = this.known;
    return timesteps.length ? timesteps : [1000, 900, 800, 700, 600, 500, 400, 300, 200, 100, 0];
  }

  setPrompts(prompts) {
    this.prompts.replaceChildren(...prompts.map((value) => h("option", { value })));
  }

  show(form) {
    this.form = form;
    const { fields, known } = this;
    const hide = (name, hidden) => (fields[name].element.hidden = hidden);
    if (this.mode === "sweep") {
      fields.over.select.value = form.over.join(OVER_SIGN);
      fields.how.set(this.hows(form.over));
      for (const name of ["how", "metric", "truth", "space"]) fields[name].select.value = form[name];
      fields.window.input.value = form.window;
      const usual = form.over.includes("layer") ? [known.layers[0], known.layers.at(-1)] : known.default;
      fields.layers.set(form.layers ?? usual);
      fields.timesteps.set(form.timesteps ?? [known.timesteps[0], known.timesteps.at(-1)]);
      const needed = known.metrics.find(([name]) => name === form.metric)[2];
      hide("window", form.how !== "window");
      hide("truth", !needed);
      hide("space", form.over.includes("space"));
      if (this.drawing) this.drawing.element.hidden = !needed || form.truth !== "drawn";
    } else {
      const edit = known.edits.find(({ name }) => name === form.edit);
      fields.over.set(this.over(edit.over));
      fields.over.select.value = form.over.join(OVER_SIGN);
      for (const name of ["edit", "control", "truth"]) fields[name].select.value = form[name];
      for (const name of ["factor", "width"]) fields[name].input.value = form[name] ?? edit.usual[name] ?? "";
      for (const name of ["heads", "tokens", "prompt", "image", "references", "readout"]) fields[name].input.value = form[name];
      fields.tokens.input.placeholder = known.words.length ? `all: ${known.words.join(", ")}` : "all";
      fields.mode.select.value = form.mode;
      if (edit.streams) fields.streams.set(edit.streams.map((name) => [name, name]));
      fields.streams.select.value = form.streams ?? edit.usual.streams ?? "";
      fields.seed.input.value = form.seed ?? "";
      fields.seed.input.placeholder = "the same";
      fields.repeats.input.value = form.repeats;
      fields.layers.set(form.layers ?? [known.layers[0], known.layers.at(-1)]);
      fields.timesteps.set([...(form.timesteps ?? [this.times[0], this.times.at(-1)])].sort((a, b) => b - a));
      for (const name of ["factor", "width", "mode", "layers", "heads", "timesteps", "tokens", "streams"]) hide(name, !edit.settings.includes(name));
      if (form.over.includes("mode")) hide("mode", true);
      const takes = edit.settings.includes("source");
      for (const name of ["prompt", "seed", "image"]) hide(name, !takes || (name === "image" && known.prompted));
      if (takes && !this.asked) {
        this.asked = true;
        this.ask("prompts");
      }
      this.meaning.textContent = edit.meaning;
      hide("repeats", form.control === "none");
      hide("references", form.control !== "resample");
      hide("truth", Boolean(known.prompted) || fields.truth.select.length < 2);
      this.hint.textContent = this.budget(form);
      if (this.drawing) this.drawing.element.hidden = form.truth !== "drawn";
    }
    if (this.drawing && !this.drawing.element.hidden) this.drawing.show(form.drawn ?? {});
  }

  /** How many runs of the network a form asks for, at most. */
  budget(form) {
    const { known } = this;
    const [first, last] = [...(form.layers ?? [known.layers[0], known.layers.at(-1)])].sort((a, b) => a - b);
    const [early, late] = [Math.max, Math.min].map((end) => (form.timesteps ? end(...form.timesteps) : null));
    const counts = {
      layer: known.layers.filter((layer) => layer >= first && layer <= last).length,
      head: listed(form.heads) || known.heads.length,
      timestep: known.timesteps.filter((at) => !form.timesteps || (at <= early && at >= late)).length,
      token: listed(form.tokens) || known.words.length,
      concept: known.names.length,
      mode: known.modes.length - 1,
      intervention: 1,
    };
    const arms = form.over.reduce((product, dim) => product * counts[dim], 1);
    const runs = 1 + arms * (1 + (form.control === "none" ? 0 : form.repeats || 0));
    return `${arms} ${arms === 1 ? "intervention" : "interventions"}: at most ${runs} runs of the network; those that are stored already are not run again.`;
  }
}
