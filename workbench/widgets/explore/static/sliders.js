// Sliders over captured values. Each value is a cell of the track; the window covers the chosen ones, and its two
// handles sit at its edges, so that one value alone can still be taken hold of.

class RangeSlider {
  /**
   * name: what it chooses; controls: data-control of the low handle, the window and the high handle;
   * texts: how each value reads; groups: [text, count] parts of the track; onchange(first, last) in positions.
   */
  constructor({ name, controls, texts, groups = [], onchange }) {
    Object.assign(this, { texts, onchange, count: texts.length });
    this.value = [0, this.count - 1];
    const role = this.count > 1 ? { role: "slider", tabindex: 0 } : { role: "slider", "aria-disabled": "true" };
    const part = (kind, control, label) =>
      h(`div.wb-${kind}`, { ...role, data: { control }, "aria-label": label, "aria-valuemin": 0, "aria-valuemax": this.count - 1 });
    this.window = part("window", controls[1], `${name}, the whole range`);
    this.low = part("handle", controls[0], `${name}, first`);
    this.high = part("handle", controls[2], `${name}, last`);
    const tints = groups.map(([text, count], i) =>
      h(`div.wb-group${i ? ".wb-group-later" : ""}`, { style: { flexGrow: count }, data: { group: text } })
    );
    this.track = h("div.wb-track", {}, h("div.wb-groups", {}, ...tints), this.window, this.low, this.high);
    this.scale = h("div.wb-scale", { "aria-hidden": "true" });
    this.element = h("div.wb-slider", {}, this.track, this.scale);
    this.track.addEventListener("pointerdown", (event) => this.grab(event));
    this.track.addEventListener("dblclick", () => this.change(0, this.count - 1));
    for (const [element, which] of [[this.low, 0], [this.high, 1], [this.window, 2]]) {
      element.addEventListener("keydown", (event) => this.key(event, which));
    }
    this.set(0, this.count - 1);
  }

  set(first, last) {
    this.value = [first, last];
    const percent = (cell) => `${(cell / this.count) * 100}%`;
    this.window.style.left = this.low.style.left = percent(first);
    this.window.style.right = percent(this.count - 1 - last);
    this.high.style.left = percent(last + 1);
    const [one, other] = [this.texts[first], this.texts[last]];
    for (const [element, now, text] of [
      [this.low, first, one],
      [this.high, last, other],
      [this.window, first, first === last ? one : `${one} to ${other}`],
    ]) {
      element.setAttribute("aria-valuenow", now);
      element.setAttribute("aria-valuetext", text);
    }
  }

  /** Move the ends, keeping them in order and on the track; tells only when something changed. */
  change(first, last) {
    const inside = (cell) => Math.min(Math.max(cell, 0), this.count - 1);
    const next = [inside(Math.min(first, last)), inside(Math.max(first, last))];
    if (next[0] === this.value[0] && next[1] === this.value[1]) return;
    this.set(...next);
    this.onchange(...next);
  }

  /** Move the window as a whole, stopping at the ends (or starting again from the other one). */
  move(cells, around = false) {
    const [first, last] = this.value;
    const wide = last - first;
    const most = this.count - 1 - wide;
    let to = first + cells;
    if (around && to > most) to = 0;
    if (around && to < 0) to = most;
    to = Math.min(Math.max(to, 0), most);
    this.change(to, to + wide);
  }

  /** Move the window; where it covers everything, start with one value at the end it would come from. */
  step(cells) {
    const last = this.count - 1;
    if (this.value[0] > 0 || this.value[1] < last) this.move(cells);
    else if (cells < 0) this.change(last, last);
    else this.change(0, 0);
  }

  key(event, which) {
    const steps = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 5, PageDown: -5 };
    const ends = { Home: -this.count, End: this.count };
    const by = steps[event.key] ?? ends[event.key];
    if (by === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    event.stopPropagation();
    const [first, last] = this.value;
    if (which === 2) this.step(by);
    else if (which === 0) this.change(Math.min(Math.max(first + by, 0), last), last);
    else this.change(first, Math.max(Math.min(last + by, this.count - 1), first));
  }

  grab(event) {
    if (event.button !== 0 || this.count < 2) return;
    event.preventDefault();
    const box = this.track.getBoundingClientRect();
    const cellOf = (at) => Math.min(Math.max(Math.floor(((at.clientX - box.left) / box.width) * this.count), 0), this.count - 1);
    const edgeOf = (at) => Math.round(((at.clientX - box.left) / box.width) * this.count);
    let which = [this.low, this.high].indexOf(event.target);
    let [first, last] = this.value;
    const start = cellOf(event);
    if (which < 0) {
      which = 2;
      if (start < first || start > last) {
        this.move(start - first - Math.floor((last - first) / 2));
        [first, last] = this.value;
      }
    }
    [this.low, this.high, this.window][which].focus({ preventScroll: true });
    const drag = (at) => {
      if (which === 0) this.change(Math.min(edgeOf(at), last), last);
      else if (which === 1) this.change(first, Math.max(edgeOf(at) - 1, first));
      else {
        const wide = last - first;
        const to = Math.min(Math.max(first + cellOf(at) - start, 0), this.count - 1 - wide);
        this.change(to, to + wide);
      }
    };
    follow(this.track, event, drag);
  }

  /** Write as many values under the track as have room. */
  layout(width) {
    const longest = Math.max(...this.texts.map((text) => text.length));
    const every = Math.max(1, Math.ceil((this.count * (longest * 7 + 10)) / Math.max(width, 1)));
    this.scale.replaceChildren(
      ...this.texts
        .map((text, i) => (i % every ? null : h("span", { style: { left: `${((i + 0.5) / this.count) * 100}%` } }, text)))
        .filter(Boolean)
    );
  }
}

/** A labelled slider of one number between two. */
function single({ control, label, low, high, step, write, onchange }) {
  const input = h("input", { type: "range", min: low, max: high, step, data: { control }, role: "slider" });
  const shown = h("output", {});
  const set = (value) => {
    input.value = value;
    shown.textContent = write(value);
    input.setAttribute("aria-valuetext", shown.textContent);
  };
  input.addEventListener("input", () => {
    set(Number(input.value));
    onchange(Number(input.value));
  });
  return { element: h("label.wb-field", {}, h("span", {}, label, " ", shown), input), input, set };
}

/** Follow a pointer until it is let go. */
function follow(element, event, moved, released = () => {}) {
  element.setPointerCapture(event.pointerId);
  const stop = () => {
    element.removeEventListener("pointermove", moved);
    released();
  };
  element.addEventListener("pointermove", moved);
  element.addEventListener("pointerup", stop, { once: true });
  element.addEventListener("pointercancel", stop, { once: true });
}
