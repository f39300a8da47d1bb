// One store for each model: the state, the arrays on screen, and all talk with the kernel. Views of the same model
// share it, so they always show the same.

const SLOW = { heads: 100, overview: 100, runs: 100, picture: 0, cube: 0, page: 0 };

class Store extends StoreMaps {
  constructor(model) {
    super();
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

  /** The layer whose heads have a map each. */
  get stripLayer() {
    return this.state.head_layer ?? this.state.layers[1];
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
    const { layers, head_layer } = this.state;
    const outside = head_layer !== null && (head_layer < layers[0] || head_layer > layers[1]);
    // The strip of heads follows a selection that leaves its layer behind.
    if (patch.layers && patch.head_layer === undefined && outside) this.state.head_layer = null;
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
}
