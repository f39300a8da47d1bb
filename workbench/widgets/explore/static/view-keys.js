// What the pointer and the keys do in a view.

const PLAY_PAUSE = 380;

class ViewKeys extends ViewDrawing {
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
    this.pointBeside();
  }

  /** Views that are compared mark the same place; their grids may differ. */
  pointBeside() {
    const { rows, columns } = this.store;
    const place = this.hover && [(this.hover[0] + 0.5) / rows, (this.hover[1] + 0.5) / columns];
    for (const other of this.root.closest(".wb-compare")?.querySelectorAll(".wb-view") ?? []) {
      if (other !== this.root) other.workbench?.point(place);
    }
  }

  /** Mark a place, (down, across) from 0 to 1, that is pointed at in another view. */
  followPoint(place) {
    const { rows, columns } = this.store;
    this.hover = place && [Math.floor(place[0] * rows), Math.floor(place[1] * columns)];
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
    else if (!this.tour.element.hidden) this.tour.end();
    else if (this.playing) this.stop();
    else if (this.hover) this.point(null);
    else if (this.store.state.pin) this.store.change({ pin: null });
  }
}
