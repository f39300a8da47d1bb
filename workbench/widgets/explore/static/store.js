// One store for each model: the state, the arrays on screen, and all talk with the kernel. Views of the same model
// share it, so they always show the same.

const SLOW = { heads: 100, overview: 100, runs: 100, picture: 0, cube: 0, page: 0 };

class Store {
  constructor(model) {
    this.model = model;
    this.views = new Set();
    this.revision = 0;
    this.painted = -1;
    this.waiting = new Map();
    this.asked = new Map();
    this.extras = {};
    this.notes = [];
    this.error = null;
    this.live = true;
    this.taken = (content, buffers) => this.attempt(() => this.take(content, buffers));
    this.changed = () => this.attempt(() => this.follow());
    this.lost = () => this.disconnect();
    this.push = throttle(100, () => this.save(), 50);
    this.tellSlow = throttle(100, () => this.tell("slow"), 40); // the maps come first
    this.later = {};
    for (const [type, pause] of Object.entries(SLOW)) this.later[type] = throttle(pause, () => this.dispatch(type));
    this.read();
    model.on("msg:custom", this.taken);
    model.on("change:state", this.changed);
    model.on("comm_live_update", this.lost);
  }

  read() {
    this.meta = this.model.get("meta");
    this.failure = this.model.get("error");
    this.state = structuredClone(this.model.get("state"));
    if (this.failure) return;
    [this.rows, this.columns] = this.meta.grid;
    this.patches = this.rows * this.columns;
  }

  dispose() {
    this.model.off("msg:custom", this.taken);
    this.model.off("change:state", this.changed);
    this.model.off("comm_live_update", this.lost);
    this.push.cancel();
    this.free();
  }

  /** Let go of everything large. */
  free() {
    this.cube = this.maps = this.labels = this.truth = this.area = this.bitmap = this.error = null;
    this.started = this.fresh = false;
    this.painted = -1;
    this.waiting.clear();
    this.asked.clear();
  }

  attach(view) {
    this.views.add(view);
    if (this.started || this.failure) return;
    this.started = true;
    this.ask("ready");
    this.compute();
  }

  detach(view) {
    this.views.delete(view);
    if (this.views.size) return;
    this.free();
    this.send({ type: "closed" });
  }

  /** A failure of ours is said under the views, and leaves what is on screen. */
  attempt(action) {
    try {
      action();
    } catch (error) {
      for (const view of this.views) view.failure(error);
    }
  }

  tell(what) {
    for (const view of this.views) view.update(what);
  }

  // --- the state ---------------------------------------------------------------------------------------------

  get space() {
    return this.meta.spaces[this.state.space];
  }

  get names() {
    return this.space.names;
  }

  /** Positions of the concepts that have a panel. */
  get shown() {
    return this.state.concepts ?? this.names.map((_, index) => index);
  }

  /** Positions of the chosen layers, timesteps and samples. */
  chosen() {
    const { layers, timesteps, sample } = this.state;
    const among = (values, test) => [...values.keys()].filter((index) => test(values[index]));
    return {
      layers: among(this.meta.layers, (layer) => layer >= layers[0] && layer <= layers[1]),
      timesteps: among(this.meta.timesteps, (timestep) => timestep <= timesteps[0] && timestep >= timesteps[1]),
      samples: among(this.meta.samples, (label) => sample === null || label === sample),
    };
  }

  /** Take new values of some fields of the state. */
  change(patch) {
    const before = this.state;
    this.state = { ...before, ...patch };
    this.push();
    this.apply(before);
  }

  /** Another space has other concepts or tokens; what does not fit falls back to its default. */
  setSpace(space) {
    const fresh = this.meta.spaces[space].state;
    const { concepts, difference, focus, reduce } = fresh;
    const same = this.meta.spaces[space].names.join("\n") === this.names.join("\n");
    const heads = this.meta.spaces[space].heads ? this.state.heads : null;
    this.change({ space, heads, limits: null, ...(same ? {} : { concepts, difference, focus, reduce }) });
  }

  /** The kernel's side set the state. */
  follow() {
    const next = structuredClone(this.model.get("state"));
    if (JSON.stringify(next) === JSON.stringify(this.state)) return;
    const before = this.state;
    this.state = next;
    this.apply(before);
  }

  save() {
    this.model.set("state", structuredClone(this.state));
    this.model.save_changes();
  }

  /** After a change: compute what it needs, draw the rest. */
  apply(before) {
    this.revision += 1;
    this.changedAt = performance.now();
    const differs = (...names) => names.some((name) => JSON.stringify(before[name]) !== JSON.stringify(this.state[name]));
    const others = differs("space", "layers", "timesteps", "heads", "sample", "frame", "reduce");
    if (others) this.fresh = false;
    if (differs("space")) this.maps = this.labels = null;
    this.tell("state");
    if (differs(...this.meta.pictures)) this.ask("picture");
    if (differs("frame") && this.truth) this.ask("ready");
    if (others) this.compute();
    else this.schedule();
    this.tellSlow();
  }

  // --- the maps ----------------------------------------------------------------------------------------------

  get cubeState() {
    if (this.cube?.space !== this.state.space) return "none";
    return this.cube.complete ? "ready" : "loading";
  }

  /** Whether the browser has all that the state needs. */
  get inBrowser() {
    return this.state.heads === null && this.cubeState === "ready";
  }

  compute() {
    this.fresh = false;
    if (this.inBrowser) this.schedule();
    else if (!this.meta.offline) this.ask("maps");
    else if (this.state.heads === null) this.ask("cube", { space: this.state.space });
    else this.fail("This page has no kernel: single heads cannot be read here.");
  }

  /** Paint at once, so that the time until the next frame is not lost; and then at most once a frame. */
  schedule() {
    if (this.frame) {
      this.again = true;
      return;
    }
    const next = () => {
      this.frame = null;
      if (this.again) this.schedule();
    };
    this.again = false;
    this.frame = document.hidden ? setTimeout(next, 16) : requestAnimationFrame(next);
    this.attempt(() => this.paint());
  }

  paint() {
    if (!this.fresh && this.inBrowser) this.reduce();
    if (!this.maps && !this.error) return;
    this.tell("paint");
    if (!this.fresh) return; // the maps of this revision are still on their way
    this.painted = this.revision;
    this.paintedAt = performance.now();
    this.tell("painted");
  }

  /** The maps of the state, from the cube. */
  reduce() {
    const { frame, reduce } = this.state;
    const pieces = this.pieces();
    if (typeof pieces === "string") {
      this.fail(pieces);
      return;
    }
    const values = this.cube.maps(pieces, Math.max(this.meta.frames.indexOf(frame), 0), reduce);
    this.show(values, this.names.length, "browser");
  }

  /** The chosen pieces that exist, or why there are none. */
  pieces({ layers, timesteps, samples } = this.chosen()) {
    this.absent ??= new Set(this.meta.missing.map((piece) => piece.join()));
    const found = [];
    for (const sample of samples) {
      for (const timestep of timesteps) {
        for (const layer of layers) {
          const piece = [sample, timestep, layer];
          if (this.absent.has(piece.join())) continue;
          if (!this.cube.holds(...piece)) {
            return (
              `The scores of layer ${this.meta.layers[layer]} at timestep ${plain(this.meta.timesteps[timestep])} are NaN ` +
              "or infinite although the run does not list them as missing: the dataset is damaged. Choose others."
            );
          }
          found.push(piece);
        }
      }
    }
    return found.length ? found : "Every chosen piece is missing from this run: its blocks did not run. Choose other layers or timesteps.";
  }

  show(values, concepts, source) {
    Object.assign(this, { maps: values, concepts, source, error: null, fresh: true });
    if (source === "browser") this.notes = this.cautions();
    this.labels = strongest(values, concepts, this.patches);
  }

  /** What is legal but suspicious; the kernel warns of the same (analysis/heatmaps.py). */
  cautions() {
    const { state, meta, names } = this;
    const found = [];
    if (state.reduce !== "mean" && names.length === 1) {
      found.push("a softmax over one concept is 1 everywhere: capture a second one to compare with, or turn the softmax off.");
    }
    if (meta.pictures.includes("sample") && state.sample === null && meta.samples.length > 1) {
      found.push(`this averages the maps of ${meta.samples.length} different pictures: choose one sample.`);
    }
    return found;
  }

  fail(sentence) {
    Object.assign(this, { maps: null, labels: null, error: sentence, fresh: true });
    this.schedule();
  }

  /** Least and greatest value of the colour scale, and the colour map. */
  scale() {
    const raw = this.state.reduce === "mean";
    const cmap = this.state.cmap === "auto" ? (raw ? "diverging" : "viridis") : this.state.cmap;
    let limits = this.state.limits;
    if (!limits) {
      limits = extent(this.maps, this.patches, this.shown);
      if (cmap === "diverging") {
        const most = Math.max(Math.abs(limits[0]), Math.abs(limits[1]));
        limits = raw ? [-most, most] : limits;
      }
    }
    return { cmap, limits };
  }

  difference() {
    if (!this.state.difference || !this.maps) return null;
    const [one, other] = this.state.difference.map((index) => index * this.patches);
    const values = new Float32Array(this.patches);
    for (let i = 0; i < this.patches; i++) values[i] = this.maps[one + i] - this.maps[other + i];
    const [low, high] = extent(values, this.patches, [0]);
    const most = Math.max(Math.abs(low), Math.abs(high));
    return { values, limits: [-most, most] };
  }

  /** One figure for what is shown: the mean IoU with the truth where there is one, else how decided it is. */
  glance() {
    if (!this.maps) return null;
    if (this.truth && this.state.space !== "prompt") {
      const value = meanIou(this.labels, this.concepts, this.truth, this.area);
      return { value, name: "mean IoU", text: number(value, 3), title: "Mean over the concepts of intersection over union of the areas with the truth" };
    }
    if (this.state.reduce === "mean" || this.concepts < 2) return null;
    const value = certainty(this.maps, this.concepts, this.patches);
    const title = "One minus the entropy over the concepts, mean over the patches: 100 % is one concept at every patch";
    return { value, name: "certainty", text: `${Math.round(value * 100)} %`, title };
  }

  /** Runs of the pinned patch over layers and over timesteps: from the cube, or what the kernel last sent. */
  runs() {
    const { pin, reduce, frame } = this.state;
    if (!pin) return null;
    if (!this.inBrowser) return this.extras.runs ?? null;
    const chosen = this.chosen();
    const at = Math.max(this.meta.frames.indexOf(frame), 0);
    const over = (dim, values) =>
      this.cube.run(
        [...values.keys()].map((index) => {
          const pieces = this.pieces({ ...chosen, [dim]: [index] });
          return typeof pieces === "string" ? [] : pieces;
        }),
        at,
        reduce,
        pin[0] * this.columns + pin[1]
      );
    return { layers: over("layers", this.meta.layers), timesteps: over("timesteps", this.meta.timesteps) };
  }

  /** Python that computes the numbers on screen; State.call writes the same. */
  code() {
    const { space, layers, timesteps, heads, sample, frame, reduce, concepts, difference } = this.state;
    const { variable, source } = this.meta;
    const float = (value) => (Number.isInteger(value) ? `${value}.0` : String(value));
    const list = (values) => `[${values.join(", ")}]`;
    const options = [layers[0] === layers[1] ? `layers=${layers[0]}` : `layers=slice(${layers[0]}, ${layers[1]})`];
    if (space !== "output") options.push(`space="${space}"`);
    const all = this.meta.timesteps;
    if (timesteps[0] === timesteps[1]) options.push(`timesteps=${float(timesteps[0])}`);
    else if (timesteps[0] !== all[0] || timesteps[1] !== all.at(-1)) {
      options.push(`timesteps=slice(${timesteps.map(float).join(", ")})`);
    }
    if (heads !== null) options.push(`heads=${list(heads)}`);
    if (sample !== null) options.push(`samples=${sample}`);
    if (reduce !== "softmax_mean") options.push(`reduce="${reduce}"`);
    const dim = space === "prompt" ? "token" : "concept";
    const at = frame === null ? "" : `.sel(frame=${frame})`;
    const written = options.join(", ");
    const maps = `${variable}.wb.heatmap(${written})${at}`;
    const { names } = this;
    const doubled = new Set(names).size < names.length;
    const literal = (value) => (Array.isArray(value) ? list(value.map(literal)) : JSON.stringify(value));
    // Tokens may have one name twice, and are then chosen by position.
    const chosen = (positions, more = "") => {
      if (doubled) return `.isel(${dim}=${literal(positions)}${more})`;
      return `.sel(${dim}=${literal(Array.isArray(positions) ? positions.map((index) => names[index]) : names[positions])}${more})`;
    };
    const lines = [`maps = ${maps}${concepts ? chosen(concepts) : ""}`, `areas = ${variable}.wb.segment(${written})${at}`];
    if (difference) {
      const [one, other] = difference.map((index) => `${maps}${chosen(index, ", drop=True")}`);
      lines.push(`difference = ${one} - ${other}`);
    }
    return [...(source ? [source, ""] : []), ...lines].join("\n");
  }

  // --- the kernel --------------------------------------------------------------------------------------------

  send(content) {
    try {
      this.model.send(content);
    } catch (error) {
      this.disconnect();
    }
  }

  /** Ask the kernel, one question of a kind at a time; of those that wait only the last is asked. */
  ask(type, content = {}) {
    this.waiting.set(type, content);
    if (this.asked.has(type)) return;
    if (this.later[type]) this.later[type]();
    else this.dispatch(type);
  }

  dispatch(type) {
    if (this.asked.has(type) || !this.waiting.has(type)) return;
    const content = { type, id: this.revision, state: this.state, ...this.waiting.get(type) };
    this.waiting.delete(type);
    const patience = setTimeout(() => this.tell("slow"), 2500);
    this.asked.set(type, { patience, since: performance.now() });
    this.send(content);
  }

  /** Whether the kernel has kept a question waiting for long. */
  get silent() {
    return [...this.asked.values()].some((asked) => performance.now() - asked.since > 2400);
  }

  disconnect() {
    this.live = false;
    this.tell("slow");
  }

  take(content, buffers) {
    const { type } = content;
    if (type === "part") {
      this.addPart(content, buffers);
      return;
    }
    const asked = this.asked.get(type);
    if (asked) clearTimeout(asked.patience);
    this.asked.delete(type);
    const quiet = !this.live || (asked && performance.now() - asked.since > 2400);
    this.live = true;
    this[`take_${type}`]?.(content, buffers);
    if (this.waiting.has(type)) this.ask(type, this.waiting.get(type));
    if (quiet) this.tell("slow");
  }

  async take_ready(content, buffers) {
    if (content.error) this.notes = [content.error];
    content.kinds?.forEach((kind, index) => {
      if (kind === "truth" || kind === "area") this[kind] = floats(buffers[index]);
    });
    const at = (content.kinds ?? []).indexOf("picture");
    if (at >= 0) await this.setPicture(content.media, buffers[at]);
    this.tell("panels");
    this.schedule();
  }

  async take_picture(content, buffers) {
    if (content.error) return;
    await this.setPicture(content.media, buffers[0]);
    this.schedule();
  }

  async setPicture(media, file) {
    try {
      this.bitmap = await createImageBitmap(new Blob([file], { type: media }));
    } catch (error) {
      this.bitmap = null;
    }
    this.tell("picture");
  }

  take_maps(content, buffers) {
    const late = this.waiting.has("maps"); // then these are maps of an earlier state
    if (!this.inBrowser && (content.error || content.space === this.state.space)) {
      this.notes = content.notes;
      if (!content.error) this.show(floats(buffers[0]), content.shape[0], "kernel");
      else if (!late) this.fail(content.error);
      this.fresh = !late;
    }
    this.schedule();
    if (this.space.cube && this.cubeState === "none" && !this.meta.offline) this.ask("cube", { space: this.state.space });
  }

  addPart({ space, timestep }, buffers) {
    if (this.cube?.space !== space) {
      const { samples, layers, timesteps, frames, spaces } = this.meta;
      this.cube = new Cube({
        space,
        samples: samples.length,
        timesteps: timesteps.length,
        layers: layers.length,
        concepts: spaces[space].names.length,
        frames: Math.max(frames.length, 1),
        patches: this.patches,
      });
    }
    const [levels, low, step] = buffers;
    this.cube.add(timestep, new Uint16Array(bytes(levels)), floats(low), floats(step));
    if (!this.cube.complete) return;
    if (!this.fresh) this.schedule();
    this.tell("slow");
  }

  take_cube(content) {
    if (content.error) this.notes = [content.error];
    if (this.cubeState === "none" && this.space.cube && !content.error) {
      this.ask("cube", { space: this.state.space });
    }
  }

  take_overview(content) {
    this.extras.overview = content;
    this.tell("slow");
  }

  take_heads(content, buffers) {
    this.extras.heads = { ...content, maps: content.error ? null : floats(buffers[0]) };
    this.tell("slow");
  }

  take_runs(content, buffers) {
    const table = (buffer, width) => {
      const values = floats(buffer);
      return Array.from({ length: values.length / width }, (_, i) => values.subarray(i * width, (i + 1) * width));
    };
    const width = this.names.length;
    this.extras.runs = content.error
      ? { error: content.error }
      : { layers: table(buffers[0], width), timesteps: table(buffers[1], width) };
    this.tell("slow");
  }

  take_page(content, buffers) {
    if (content.error) this.notes = [content.error];
    else download(content.name, new Blob([buffers[0]], { type: "text/html" }));
    this.tell("slow");
  }
}

/** The bytes of a message buffer, at an address that typed arrays accept. */
function bytes(buffer) {
  if (buffer instanceof ArrayBuffer) return buffer;
  return buffer.buffer.slice(buffer.byteOffset, buffer.byteOffset + buffer.byteLength);
}

function floats(buffer) {
  return new Float32Array(bytes(buffer));
}
