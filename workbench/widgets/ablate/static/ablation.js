// The ablation panel: two modes that are never mixed, each with its form, its results and their figures.

const MODE_NAMES = { sweep: "Sweep", intervention: "Intervention" };
const MODE_MEANINGS = {
  sweep: "A choice made afterwards among the recorded scores: where the answer can be read off. The network is not changed.",
  intervention: "The network is changed and run again: what it needs. Each edit is compared with a control that is named.",
};

/** One mode: form, run, results. */
class ModeView {
  constructor(mode, panel) {
    Object.assign(this, { mode, panel, rows: [], shown: null });
    const known = panel.meta.modes[mode];
    const send = (type, more = {}) => sendOr((text) => this.lose(text), panel.model, { type, mode, ...more });
    this.send = send;
    this.element = h("section.wb-mode", { data: { mode }, role: "tabpanel", "aria-label": MODE_NAMES[mode] }, h("p.wb-hint", {}, MODE_MEANINGS[mode]));
    this.error = h("p.wb-error", { role: "alert", hidden: true });
    if (!known) {
      this.element.append(h("p.wb-note", {}, panel.meta.lacks[mode] ?? `There is no ${mode} here.`));
      return;
    }
    this.form = new Form(mode, known, (patch) => panel.change(mode, patch), send);
    this.go = button("Run", { data: { control: "run" }, class: "wb-button wb-primary", onclick: () => this.run() });
    this.end = button("Stop", { data: { control: "stop" }, disabled: true, onclick: () => this.stop() });
    this.bar = h("progress.wb-progress", { hidden: true, "aria-label": "Progress" });
    this.status = h("span.wb-hint", { role: "status" });
    this.table = h("table.wb-results", {});
    this.measure = choice("measure", "Show", [], (measure) => this.ask(this.shown.number, measure));
    this.plot = new Plot({ onpick: (at) => send("maps", { number: this.shown.number, at, measure: this.measureName }) });
    this.pair = new SideBySide();
    this.code = h("pre.wb-code", { tabindex: 0, "aria-label": "Code of this result" });
    this.drawer = h("div.wb-drawer", { hidden: true }, this.code);
    const file = (what, text, title) => button(text, { data: { control: `export-${what}` }, title, onclick: () => send("export", { what, number: this.shown?.number, measure: this.measureName, line: this.plot.focus }) });
    this.copy = button("Copy as code", { data: { control: "code" }, "aria-expanded": "false", onclick: () => this.copyCode() });
    this.all = file("table", "Table as CSV", "Every point of every result of this table");
    this.listing = h("div.wb-listing", { hidden: true }, h("div.wb-row", {}, h("span.wb-section-title", {}, `Results of ${mode}s`), this.all), h("div.wb-scroll", {}, this.table));
    this.figure = h(
      "div.wb-result", { hidden: true },
      h("div.wb-row.wb-result-head", {}, this.heading = h("span.wb-section-title", {}), this.measure.element, h("span.wb-tools", {}, this.copy,
        file("csv", "CSV", "The points of this result"), file("dataset", "Dataset", "netCDF, for xarray.open_dataset"), file("figure", "Figure", "PDF"))),
      this.notes = h("div.wb-notes", { hidden: true, role: "note", "aria-label": "Warnings" }), this.drawer, this.plot.element, this.pair.element
    );
    this.element.append(this.form.element, h("div.wb-row.wb-run", {}, this.go, this.end, this.bar, this.status), this.error, this.figure, this.listing);
  }

  show() {
    if (this.form) this.form.show(this.panel.state[this.mode]);
  }

  run() {
    this.fail("");
    this.send("run", { form: this.panel.state[this.mode] });
  }

  stop() {
    this.end.disabled = true;
    this.status.textContent = "Stopping…";
    this.stopping = true;
    this.send("stop");
  }

  busy(on) {
    this.running = on;
    this.stopping = false;
    this.go.disabled = on || this.panel.busyElsewhere(this.mode);
    this.end.disabled = !on;
    this.bar.hidden = !on;
    this.bar.removeAttribute("value");
    this.status.textContent = on ? "Running…" : "";
    this.element.dataset.running = String(on);
  }

  progress({ done, total, remaining }) {
    this.bar.max = total;
    this.bar.value = done;
    if (this.stopping) return;
    const left = remaining === null ? "" : `, about ${duration(remaining)} left`;
    const share = this.mode === "sweep" ? `${Math.floor((100 * done) / total)} %` : `${done} of ${total} runs`;
    this.status.textContent = `${share}${done < total ? left : ""}`;
  }

  /** There is no kernel that could answer. */
  lose(text) {
    if (this.running) this.busy(false);
    this.fail(text);
  }

  fail(text) {
    this.error.textContent = sentence(text);
    this.error.hidden = !text;
  }

  /** A finished run enters the table and is shown. */
  add(row, look = true) {
    this.rows.push(row);
    this.drawTable();
    if (look) this.ask(row.number);
  }

  ask(number, measure = null) {
    this.send("plot", { number, measure });
  }

  drawTable() {
    this.listing.hidden = !this.rows.length;
    const peak = this.rows.at(-1)?.peak ?? "best";
    const head = ["#", "what", "measure", "truth", "points", peak, "value", "took"];
    this.table.replaceChildren(
      h("thead", {}, h("tr", {}, ...head.map((text) => h("th", { scope: "col" }, text)))),
      h("tbody", {}, ...this.rows.map((row) => {
        const pick = button(String(row.number), { data: { result: row.number }, "aria-label": `Show result ${row.number}`, "aria-pressed": String(this.shown?.number === row.number), onclick: () => this.ask(row.number) });
        const cells = [row.what, row.measure, row.truth || "–", row.points, row.best ?? "–", number(row.value), duration(row.seconds)];
        return h("tr", {}, h("td", {}, pick), ...cells.map((text) => h("td", {}, String(text))));
      }))
    );
  }

  drawPlot({ number: which, measure, plot, code, notes }) {
    const row = this.rows.find((one) => one.number === which);
    const other = this.shown?.number !== which;
    Object.assign(this, { shown: row, measureName: measure, plotted: plot });
    this.heading.textContent = `${MODE_NAMES[this.mode]} ${which}: ${row.what}${row.truth ? `; truth: ${row.truth}` : ""}`;
    this.measure.element.hidden = row.measures.length < 2;
    this.measure.set(row.measures);
    this.measure.select.value = measure;
    this.code.textContent = code;
    this.notes.hidden = !notes.length;
    this.notes.replaceChildren(...notes.map((text) => h("p.wb-note", {}, sentence(text))));
    this.figure.hidden = false;
    this.figure.dataset.result = which;
    const { picked } = this.plot;
    this.plot.show(plot, this.panel.width);
    // Measures of one result differ in their points: some are there once for each layer that is read.
    const same = picked?.length === plot.labels.length && picked.every((at, i) => at < plot.labels[i].length);
    if (other || !same) this.pair.clear();
    else this.plot.say((this.plot.picked = picked));
    this.drawTable();
  }

  async drawMaps(found, buffers) {
    if (this.shown?.number !== found.number || this.plot.picked?.join() !== found.at.join()) return;
    this.last = [found, buffers];
    await this.pair.show(found, buffers, this.panel.width);
    this.element.dataset.maps = `${found.number}:${found.at.join()}`;
  }

  resize() {
    if (!this.shown) return;
    this.plot.show(this.plotted, this.panel.width);
    if (this.pair.values && this.last) this.pair.show(...this.last, this.panel.width);
  }

  async copyCode() {
    this.drawer.hidden = !this.drawer.hidden;
    this.copy.setAttribute("aria-expanded", String(!this.drawer.hidden));
    if (this.drawer.hidden) return;
    try {
      await navigator.clipboard.writeText(this.code.textContent);
      this.status.textContent = `Copied: ${this.panel.needs}`;
    } catch {
      this.status.textContent = `Select and copy: ${this.panel.needs}`;
    }
  }
}

class AblationPanel {
  constructor(model, root) {
    Object.assign(this, { model, root, meta: model.get("meta"), state: model.get("state"), width: root.clientWidth || 800 });
    this.tabs = h("div.wb-tabs", { role: "tablist", "aria-label": "What to do" }, ...Object.keys(MODE_NAMES).map((mode) =>
      h("button.wb-tab", { type: "button", role: "tab", data: { tab: mode }, onclick: () => this.choose(mode) }, MODE_NAMES[mode])));
    this.tabs.addEventListener("keydown", (event) => {
      if (!["ArrowLeft", "ArrowRight"].includes(event.key)) return;
      event.preventDefault();
      event.stopPropagation();
      this.choose(this.state.mode === "sweep" ? "intervention" : "sweep");
      this.tabs.querySelector("[aria-selected=true]").focus();
    });
    this.views = Object.fromEntries(Object.keys(MODE_NAMES).map((mode) => [mode, new ModeView(mode, this)]));
    this.note = h("p.wb-note", { hidden: true });
    root.append(h("div.wb-head", {}, h("div.wb-title", {}, h("span.wb-subject", {}, "Ablations"), h("span.wb-hint", {}, this.meta.title))), this.tabs, this.note, ...Object.values(this.views).map((view) => view.element));
    this.show();
    this.silent = setTimeout(() => unanswered(root, true), 5000);
  }

  say(text) {
    this.note.textContent = text;
    this.note.hidden = !text;
  }

  choose(mode) {
    this.write({ ...this.state, mode });
  }

  change(mode, patch) {
    const state = { ...this.state, [mode]: { ...this.state[mode], ...patch } };
    // Truth that is drawn serves both modes.
    if (patch.drawn) for (const other of Object.keys(this.meta.modes)) state[other] = { ...state[other], drawn: patch.drawn };
    this.write(state);
  }

  write(state) {
    this.state = state;
    this.model.set("state", state);
    this.model.save_changes();
    this.show();
  }

  show() {
    for (const [mode, view] of Object.entries(this.views)) {
      view.element.hidden = mode !== this.state.mode;
      const tab = this.tabs.querySelector(`[data-tab=${mode}]`);
      tab.setAttribute("aria-selected", String(mode === this.state.mode));
      tab.tabIndex = mode === this.state.mode ? 0 : -1;
      view.show();
    }
  }

  /** What copied code needs to run. */
  get needs() {
    const { uses } = this.meta;
    return uses.length ? `it uses your variable${uses.length > 1 ? "s" : ""} ${uses.join(" and ")}.` : "it runs as it stands.";
  }

  busyElsewhere(mode) {
    return Object.values(this.views).some((view) => view.mode !== mode && view.running);
  }

  busy(mode, on) {
    for (const view of Object.values(this.views).filter((one) => one.form)) {
      if (view.mode === mode) view.busy(on);
    }
    for (const view of Object.values(this.views).filter((one) => one.form && one.mode !== mode)) {
      view.go.disabled = on || view.running;
      if (!view.running) view.status.textContent = on ? `A run of the other mode is under way.` : "";
    }
  }

  async hear(message, buffers) {
    clearTimeout(this.silent);
    unanswered(this.root, false);
    const view = this.views[message.mode];
    if (message.type === "ready") {
      this.say("");
      for (const [mode, rows] of Object.entries(message.rows)) {
        if (!this.views[mode].form) continue;
        this.views[mode].rows = [];
        rows.forEach((row, i) => this.views[mode].add(row, i === rows.length - 1));
      }
      if (message.running) this.busy(message.running, true);
      if (message.media) {
        const bitmap = await createImageBitmap(new Blob([buffers[0]], { type: message.media }));
        for (const each of Object.values(this.views)) each.form?.drawing?.setPicture(bitmap);
      }
      this.root.dataset.ready = "true";
    } else if (message.type === "started") this.busy(message.mode, true);
    else if (message.type === "progress") view?.progress(message);
    else if (message.type === "done") {
      this.busy(message.mode, false);
      view.status.textContent = `Done in ${duration(message.row.seconds)}.`;
      view.add(message.row);
    } else if (message.type === "stopped") {
      this.busy(message.mode, false);
      view.status.textContent = message.mode === "sweep" ? "Stopped." : "Stopped: finished runs are kept, and Run goes on from there.";
    } else if (message.type === "failed") {
      if (message.of === "run" && view?.running !== undefined) this.busy(message.mode, false);
      (view ?? this.views[this.state.mode]).fail(message.error);
    } else if (message.type === "plot") view.drawPlot(message);
    else if (message.type === "prompts") view.form.setPrompts(message.prompts);
    else if (message.type === "maps") await view.drawMaps(message, buffers);
    else if (message.type === "file") download(message.name, new Blob([buffers[0]]));
  }
}

function render({ model, el }) {
  const root = h("div.wb-view.wb-ablation", {});
  el.append(root);
  if (model.get("error")) {
    root.append(h("p.wb-error", { role: "alert" }, sentence(model.get("error"))));
    return undefined;
  }
  const panel = new AblationPanel(model, root);
  const hear = (message, buffers) =>
    panel.hear(message, buffers).catch((error) => {
      panel.say(`This could not be shown (${error.message}).`);
      console.warn(error);
    });
  const follow = () => {
    panel.state = model.get("state");
    panel.show();
  };
  model.on("msg:custom", hear);
  model.on("change:state", follow);
  const watch = new ResizeObserver(throttle(100, () => {
    const width = root.clientWidth - 24;
    if (width > 0 && Math.abs(width - panel.width) > 4) {
      panel.width = width;
      Object.values(panel.views).forEach((view) => view.form && view.resize());
    }
  }));
  watch.observe(root);
  root.workbench = panel;
  sendOr((text) => panel.say(text), model, { type: "ready" });
  return () => {
    clearTimeout(panel.silent);
    watch.disconnect();
    model.off("msg:custom", hear);
    model.off("change:state", follow);
  };
}

export default { render };
