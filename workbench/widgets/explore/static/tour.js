// A short tour of a view: what each part shows, with that part outlined. One step for each part that is there.

const STOPS = [
  [".wb-panel[data-kind=picture]", () => "The picture that the run is about. The model sees it as square patches, the cells of the maps."],
  [".wb-panel[data-kind=concept]", ({ state, names }) =>
    state.reduce === "mean"
      ? "One map for each concept: its raw score at every patch. All maps share the scale below."
      : `One map for each concept: its share of every patch, among ${names.length === 1 ? "the one concept" : `all ${names.length} concepts`}. Bright is more; all maps share the scale below, and the shares of a patch add up to 1.`],
  [".wb-panel[data-kind=segmentation]", () => "Every patch in the colour of its strongest concept. The names below say how much of the picture each has; click one to pick it."],
  [".wb-panel[data-kind=truth]", () => "What is really there. The mean IoU above says how well the segmentation agrees with it: 1 is perfect."],
  [".wb-controls", () => "The layers of the network, and the timesteps from noise to picture, that the maps are averaged over. Drag the blue window or its ends; ▶ plays one after the other."],
  ["details[data-section=overview]", () => "One number for every layer and timestep at once: where in the network good maps are. Click a cell to see its maps."],
  ["details[data-section=patch]", () => "Click a patch in any map to pin it: here are its values, and how they run over layers and timesteps."],
  [".wb-tools", () => "Code copies the lines of Python that give the numbers on screen; Save writes a picture, or a page that works without a kernel; ? lists the keys."],
];

class Tour {
  constructor(store, root) {
    Object.assign(this, { store, root, at: 0 });
    this.text = h("p.wb-tour-text", { "aria-live": "polite" });
    this.back = button("Back", { data: { control: "tour-back" }, onclick: () => this.go(this.at - 1) });
    this.next = button("Next", { data: { control: "tour-next" }, onclick: () => this.go(this.at + 1) });
    const end = button("End the tour", { data: { control: "tour-end" }, onclick: () => this.end() });
    this.element = h("div.wb-drawer.wb-tour", { hidden: true, role: "region", "aria-label": "Tour" }, this.text, h("div.wb-row", {}, this.back, this.next, end));
  }

  /** The parts that are there, each with its sentence. */
  get stops() {
    const there = STOPS.map(([selector, say]) => [this.root.querySelector(selector), say]);
    return there.filter(([part]) => part?.checkVisibility());
  }

  begin() {
    this.element.hidden = false;
    this.go(0);
    this.next.focus({ preventScroll: true });
  }

  go(at) {
    const { stops } = this;
    if (at >= stops.length) {
      this.end();
      return;
    }
    this.at = Math.max(at, 0);
    const [part, say] = stops[this.at];
    this.outline(part);
    this.text.textContent = `${this.at + 1} of ${stops.length}: ${say(this.store)}`;
    this.back.disabled = this.at === 0;
    this.next.textContent = this.at === stops.length - 1 ? "Done" : "Next";
    part.scrollIntoView({ block: "nearest" });
  }

  outline(part) {
    this.root.querySelector(".wb-toured")?.classList.remove("wb-toured");
    part?.classList.add("wb-toured");
  }

  end() {
    this.outline(null);
    this.element.hidden = true;
    this.root.focus({ preventScroll: true });
  }
}
