// The maps of a selection from the head-reduced cube: softmax over the concepts of each piece, then the mean, as
// workbench.numerics.scores.reduce_maps does. Everything here is arrays; nothing touches the page.

class Cube {
  constructor(sizes) {
    Object.assign(this, sizes); // samples, timesteps, layers, concepts, frames, patches
    this.parts = new Array(this.timesteps);
    this.received = 0;
    this.sum = null;
    this.kept = new Map();
  }

  /** One timestep: levels (sample, layer, concept, frame, patch), low and step (sample, layer, concept). */
  add(timestep, levels, low, step) {
    if (!this.parts[timestep]) this.received += 1;
    this.parts[timestep] = { levels, low, step };
  }

  get complete() {
    return this.received === this.timesteps;
  }

  /** Whether a piece has finite scores. */
  holds(sample, timestep, layer) {
    return !Number.isNaN(this.parts[timestep].step[(sample * this.layers + layer) * this.concepts]);
  }

  /** Scores (concept, patch) of one piece, or of one patch of it. */
  scores(sample, timestep, layer, frame, out, first = 0, count = this.patches) {
    const { levels, low, step } = this.parts[timestep];
    for (let concept = 0; concept < this.concepts; concept++) {
      const range = (sample * this.layers + layer) * this.concepts + concept;
      const base = low[range];
      const scale = step[range];
      const from = (range * this.frames + frame) * this.patches + first;
      const to = concept * count;
      for (let i = 0; i < count; i++) out[to + i] = base + scale * levels[from + i];
    }
    return out;
  }

  /**
   * The mean over pieces [sample, timestep, layer], with the softmax before it, after it or not at all.
   * Stepping a slider changes few pieces: these are added to, or taken from, the running sum.
   */
  maps(pieces, frame, reduce) {
    const soft = reduce === "softmax_mean";
    const size = this.concepts * this.patches;
    const recipe = `${frame} ${soft}`;
    const wanted = new Map(pieces.map((piece) => [piece.join(), piece]));
    const gone = [...this.kept.keys()].filter((key) => !wanted.has(key));
    const fresh = [...wanted.keys()].filter((key) => !this.kept.has(key));
    const rebuild = this.recipe !== recipe || gone.length + fresh.length >= wanted.size || this.steps > 500;
    if (rebuild) {
      this.sum = new Float64Array(size);
      this.kept = new Map();
      this.recipe = recipe;
      this.steps = 0;
    }
    this.scratch ??= new Float32Array(size);
    const apply = (piece, sign) => {
      this.scores(...piece, frame, this.scratch);
      if (soft) softmax(this.scratch, this.concepts, this.patches);
      for (let i = 0; i < size; i++) this.sum[i] += sign * this.scratch[i];
    };
    if (!rebuild) for (const key of gone) apply(this.kept.get(key), -1);
    for (const [key, piece] of wanted) if (!this.kept.has(key)) apply(piece, 1);
    this.kept = wanted;
    this.steps += 1;
    const out = new Float32Array(size);
    for (let i = 0; i < size; i++) out[i] = this.sum[i] / wanted.size;
    return reduce === "mean_softmax" ? softmax(out, this.concepts, this.patches) : out;
  }

  /** The concepts' values at one patch, over groups of pieces; a group without pieces gives NaN. */
  run(groups, frame, reduce, patch) {
    const piece = new Float32Array(this.concepts);
    return groups.map((pieces) => {
      const mean = new Float32Array(this.concepts).fill(pieces.length ? 0 : NaN);
      for (const each of pieces) {
        this.scores(...each, frame, piece, patch, 1);
        if (reduce === "softmax_mean") softmax(piece, this.concepts, 1);
        for (let c = 0; c < this.concepts; c++) mean[c] += piece[c] / pieces.length;
      }
      return reduce === "mean_softmax" ? softmax(mean, this.concepts, 1) : mean;
    });
  }
}

/** Softmax over the concepts of (concept, patch), in place. */
function softmax(values, concepts, patches) {
  for (let p = 0; p < patches; p++) {
    let most = -Infinity;
    for (let i = p; i < concepts * patches; i += patches) if (values[i] > most) most = values[i];
    let sum = 0;
    for (let i = p; i < concepts * patches; i += patches) sum += values[i] = Math.exp(values[i] - most);
    for (let i = p; i < concepts * patches; i += patches) values[i] /= sum;
  }
  return values;
}

/** Position of the strongest concept at each patch; the first one wins a draw, -1 where the maps are NaN. */
function strongest(maps, concepts, patches) {
  const labels = new Int16Array(patches);
  for (let p = 0; p < patches; p++) {
    let best = 0;
    for (let c = 0; c < concepts; c++) {
      const value = maps[c * patches + p];
      if (Number.isNaN(value)) best = -1;
      if (best >= 0 && value > maps[best * patches + p]) best = c;
    }
    labels[p] = best;
  }
  return labels;
}

/** Least and greatest of some maps (concept, patch). */
function extent(maps, patches, shown) {
  let low = Infinity;
  let high = -Infinity;
  for (const index of shown) {
    for (let i = index * patches; i < (index + 1) * patches; i++) {
      if (maps[i] < low) low = maps[i];
      if (maps[i] > high) high = maps[i];
    }
  }
  return low <= high ? [low, high] : [0, 1];
}

/** One minus the entropy over the concepts, mean over the patches: 1 is one concept at every patch. */
function certainty(maps, concepts, patches) {
  let sum = 0;
  for (let i = 0; i < concepts * patches; i++) if (maps[i] > 0) sum -= maps[i] * Math.log(maps[i]);
  return 1 - sum / patches / Math.log(concepts);
}

/** Mean intersection over union of the areas with the truth, in pixels as workbench.numerics.measures.iou does. */
function meanIou(labels, concepts, truth, area) {
  const both = new Float64Array(concepts);
  const either = new Float64Array(concepts);
  for (let p = 0; p < labels.length; p++) {
    for (let c = 0; c < concepts; c++) {
      const here = truth[c * labels.length + p];
      if (labels[p] === c) {
        both[c] += here;
        either[c] += area[p];
      } else {
        either[c] += here;
      }
    }
  }
  const known = [...either.keys()].filter((c) => either[c] > 0);
  return known.reduce((sum, c) => sum + both[c] / either[c], 0) / Math.max(known.length, 1);
}

/** A map (rows, columns) at any number of pixels, linear between the patch centres and constant beyond them. */
function bilinear(values, rows, columns, height, width) {
  const out = new Float32Array(height * width);
  const place = (count, pixels) =>
    Array.from({ length: pixels }, (_, i) => {
      const at = Math.min(Math.max(((i + 0.5) * count) / pixels - 0.5, 0), count - 1);
      const lower = Math.min(Math.floor(at), count - 1);
      return [lower, Math.min(lower + 1, count - 1), at - lower];
    });
  const across = place(columns, width);
  place(rows, height).forEach(([top, bottom, down], y) => {
    for (let x = 0; x < width; x++) {
      const [left, right, along] = across[x];
      const upper = values[top * columns + left] * (1 - along) + values[top * columns + right] * along;
      const lower = values[bottom * columns + left] * (1 - along) + values[bottom * columns + right] * along;
      out[y * width + x] = upper * (1 - down) + lower * down;
    }
  });
  return out;
}
