// The maps of a store: from the cube or from the kernel, with their colours, figures and code.

class StoreMaps extends StoreKernel {
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

  /** Python that computes the numbers on screen. */
  code() {
    return codeOf(this);
  }
}
