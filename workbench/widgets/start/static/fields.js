// The model, and what is folded away under "More".

const MODEL_NOTES = {
  "tiny-flux": "Comes with the package and runs on any computer in seconds. It knows drawn scenes only, not photographs.",
};
const SPACE_NOTES = {
  output: "Attention outputs of patches and concepts, compared: ConceptAttention’s own maps.",
  cross: "Queries of patches with keys of concepts: cross attention.",
};

/** Bundled, in the kernel, or named. */
class ModelField {
  constructor({ bundled, hub }, change, send) {
    Object.assign(this, { bundled, change, kernel: {} });
    this.choice = choice("model", "Model", [], () => this.chosen());
    this.choice.select.addEventListener("focus", () => send("models"));
    const list = h("datalist", { id: `wb-models-${Math.random().toString(36).slice(2)}` }, ...hub.map((value) => h("option", { value })));
    this.named = entry("model-name", "Folder, or name on the Hugging Face hub", { list: list.id, placeholder: hub[0] }, (model) => change({ model, kernel: false }));
    this.note = h("p.wb-hint", {});
    this.error = h("p.wb-start-refused", { role: "alert", hidden: true });
    this.element = h("div.wb-start-field", {}, this.choice.element, this.named.element, list, this.error, this.note);
  }

  offer(kernel) {
    this.kernel = kernel;
    if (this.state) this.show(this.state);
  }

  show(state) {
    this.state = state;
    const own = Object.entries(this.kernel).map(([name, kind]) => [`kernel:${name}`, `${name} (${kind} in this kernel)`]);
    const gone = state.kernel && !(state.model in this.kernel) ? [[`kernel:${state.model}`, `${state.model} (not in this kernel)`]] : [];
    this.choice.set([["bundled", `${this.bundled} (bundled)`], ...own, ...gone, ["named", "another: a folder or a hub name…"]]);
    const named = !state.kernel && (state.model !== this.bundled || this.naming);
    this.choice.select.value = state.kernel ? `kernel:${state.model}` : named ? "named" : "bundled";
    this.named.element.hidden = !named;
    if (named && document.activeElement !== this.named.input) this.named.input.value = state.model === this.bundled ? "" : state.model;
  }

  chosen() {
    const { value } = this.choice.select;
    this.naming = value === "named";
    if (value === "named") {
      this.change({ model: "", kernel: false });
      this.named.input.focus();
    } else this.change(value === "bundled" ? { model: this.bundled, kernel: false } : { model: value.slice(7), kernel: true });
  }

  /** What the kernel says of the model. */
  tell(facts, error, naming) {
    this.error.textContent = sentence(error);
    this.error.hidden = !error || (naming && !this.state.model);
    const parts = [MODEL_NOTES[this.state.kernel ? "" : this.state.model]];
    if (facts.words?.length) parts.push(`Its ${facts.words.length} words: ${facts.words.join(", ")}.`);
    if (facts.at_hand === false) parts.push("It is loaded at the first run, which may take minutes; words are looked at from then on.");
    this.note.textContent = parts.filter(Boolean).join(" ");
    this.blocks = facts.blocks;
  }
}

/** Everything that has a good default. */
class MoreFields {
  constructor({ spaces }, change) {
    const text = (name, label, placeholder) => entry(name, label, { placeholder }, (value) => change({ [name]: value }));
    const whole = (name, label, min, placeholder) => {
      const made = amount(name, label, { min }, (value) => change({ [name]: value ?? (placeholder ? null : min) }));
      if (placeholder) made.input.placeholder = placeholder;
      return made;
    };
    this.fields = {
      timesteps: text("timesteps", "Timesteps, 1000 (noise) to 0", "the model’s own, such as 500"),
      steps: whole("steps", "Steps of the schedule", 1, "the model’s own"),
      layers: text("layers", "Layers", "all dual-stream ones"),
      samples: whole("samples", "Noise samples", 1),
      seed: whole("seed", "Seed", 0),
      size: text("size", "Size, height × width in pixels", "the model’s own"),
      about: text("about", "Prompt beside the picture", "none"),
    };
    this.pool = choice("pool", "A concept of several tokens", [["first", "is its first token (the paper)"], ["last", "is its last token"], ["mean", "is the mean of its tokens"]], (pool) => change({ pool }));
    this.ticks = Object.fromEntries(spaces.map((space) => [space, tick(`space-${space}`, space, () =>
      change({ spaces: spaces.filter((one) => this.ticks[one].input.checked) })
    )]));
    for (const [space, { element }] of Object.entries(this.ticks)) if (SPACE_NOTES[space]) element.title = SPACE_NOTES[space];
    const of = h("fieldset.wb-start-spaces.wb-wide", {}, h("legend", {}, "Spaces"), ...Object.values(this.ticks).map(({ element }) => element));
    this.element = h("details.wb-section.wb-start-more", { data: { section: "more" } },
      h("summary", {}, h("span.wb-section-title", {}, "More"), this.brief = h("span.wb-hint", {})),
      h("div.wb-body.wb-options", {}, ...Object.values(this.fields).map(({ element }) => element), this.pool.element, of));
  }

  show(state, blocks) {
    const prompted = state.source === "prompt";
    for (const [name, { input }] of Object.entries(this.fields)) if (document.activeElement !== input) input.value = state[name] ?? "";
    for (const [name, own] of [["timesteps", !prompted], ["about", !prompted], ["steps", prompted]]) this.fields[name].element.hidden = !own;
    this.fields.samples.element.firstChild.textContent = prompted ? "Pictures" : "Noise samples";
    this.fields.layers.input.placeholder = blocks ? `0-${blocks[0] - 1 + (blocks[0] ? 0 : blocks[1])} of 0-${blocks[0] + blocks[1] - 1}` : "all dual-stream ones";
    this.pool.select.value = state.pool;
    for (const [space, { input }] of Object.entries(this.ticks)) input.checked = state.spaces.includes(space);
    const said = [
      !prompted && (state.timesteps ? `timesteps ${state.timesteps}` : "one timestep"), prompted && state.steps && `${state.steps} steps`,
      state.layers && `layers ${state.layers}`, state.samples > 1 && `${state.samples} ${prompted ? "pictures" : "samples"}`, state.seed && `seed ${state.seed}`,
      state.size, !prompted && state.about && `“${state.about}”`, state.pool !== "first" && `${state.pool} of a concept’s tokens`, state.spaces.join(", "),
    ];
    this.brief.textContent = said.filter(Boolean).join(" · ");
  }
}
