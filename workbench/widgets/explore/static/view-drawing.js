// How a view follows the store: the controls, the panels and the sentences of its state, and the painting.

class ViewDrawing extends ViewParts {
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
        panels.push(new Panel("concept", names[index], { index, colour: conceptColour(index), onpick: () => this.pick(index), tabstop: names.length < 2 }));
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
      h("span.wb-hint", { title: "Share of the patches where each is the strongest" }, "areas"),
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
    this.root.classList.toggle("wb-slim", width < 420);
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
    for (const chip of this.legend.querySelectorAll("[data-concept-chip]")) chip.setAttribute("aria-pressed", String(Number(chip.dataset.conceptChip) === state.focus));
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
    const byArea = String(largest) === String(shown);
    const text = `${shown.length} of ${names.length} shown${byArea ? ", those with the largest areas" : ""}; the others are strongest at ${Math.round((100 * area) / store.patches)} % of the patches. `;
    if (text === this.rest.dataset.text) return;
    this.rest.dataset.text = text;
    this.rest.replaceChildren(
      text,
      button("Show all", { data: { control: "show-all" }, onclick: () => store.change({ concepts: null }) }),
      " ",
      byArea ? "" : button(`Show the ${shown.length} with the largest areas`, { data: { control: "show-largest" }, onclick: () => store.change({ concepts: largest }) })
    );
  }
}
