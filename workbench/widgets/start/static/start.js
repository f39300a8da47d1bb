// The start panel: a picture or a prompt, words, a model; Run; its history; the same in code.

class StartPanel {
  constructor(model, root) {
    Object.assign(this, { model, root, meta: model.get("meta"), state: model.get("state"), rows: [], shown: 0, facts: {} });
    const deliver = (content, buffers) => sendOr((text) => this.lose(text), model, content, buffers);
    const send = (type, more = {}) => deliver({ type, ...more });
    this.send = send;
    const change = (patch) => this.change(patch);
    this.ask = throttle(250, (extra) => send("words", { form: extra ? { ...this.state, concepts: [...this.state.concepts, extra] } : this.state }), 120);
    const group = `wb-source-${Math.random().toString(36).slice(2)}`;
    this.sources = h("div.wb-row.wb-start-sources", { role: "radiogroup", "aria-label": "What to look at" }, ...[["picture", "A picture"], ["prompt", "A prompt: make a picture"]].map(([value, text]) =>
      h("label.wb-tick", {}, h("input", { type: "radio", name: group, value, data: { control: `source-${value}` }, onchange: () => change({ source: value }) }), h("span", {}, text))
    ));
    this.picture = new PictureField(this.meta.examples, {
      send: deliver, fail: (text) => this.fail(text), onexample: (name) => this.takeExample(name),
    });
    this.prompt = h("textarea.wb-start-prompt", { rows: 3, placeholder: "a red heart on grass", data: { control: "prompt" }, "aria-label": "Prompt: what to make", oninput: () => this.change({ prompt: this.prompt.value }) });
    this.words = new WordField({ onchange: (concepts) => change({ concepts }), ontyping: (word) => this.ask(word) });
    this.models = new ModelField(this.meta, change, send);
    this.more = new MoreFields(this.meta, change);
    this.go = button("Run", { data: { control: "run" }, class: "wb-button wb-primary", title: "Ctrl+Enter", onclick: () => this.run() });
    this.end = button("Stop", { data: { control: "stop" }, disabled: true, onclick: () => this.stop() });
    this.bar = h("progress.wb-progress", { hidden: true, "aria-label": "Progress" });
    this.status = h("span.wb-hint", { role: "status" });
    this.error = h("p.wb-error", { role: "alert", hidden: true });
    this.notes = h("div.wb-notes", { hidden: true, role: "note", "aria-label": "Warnings" });
    this.history = h("div.wb-start-history", { role: "group", "aria-label": "Runs of this panel" });
    this.code = h("pre.wb-code", { tabindex: 0, "aria-label": "Code of this run" });
    this.drawer = h("div.wb-drawer", { hidden: true }, this.code);
    this.copy = button("Continue in code", { data: { control: "code" }, "aria-expanded": "false", onclick: () => this.copyCode() });
    this.result = h("div.wb-start-result", { hidden: true }, h("div.wb-row", {}, this.history, h("span.wb-tools", {}, this.copy)), this.drawer);
    root.append(
      h("div.wb-head", {}, h("div.wb-title", {}, h("span.wb-subject", {}, "Concepts in a picture"), h("span.wb-hint", {}, "Choose a picture, type what to look for, press Run."))),
      h("div.wb-start-form", {}, h("div.wb-start-left", {}, this.sources, this.picture.element, this.prompt), h("div.wb-start-right", {}, this.words.element, this.models.element)),
      h("div.wb-sections", {}, this.more.element),
      h("div.wb-row.wb-run", {}, this.go, this.end, this.bar, this.status), this.error, this.notes, this.result
    );
    this.picture.listen(root, () => this.state.source === "picture");
    root.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
      event.preventDefault();
      event.stopPropagation();
      if (!this.running) this.run();
    });
    this.show();
    this.silent = setTimeout(() => unanswered(root, true), 5000);
  }

  change(patch) {
    this.state = { ...this.state, ...patch };
    this.model.set("state", this.state);
    this.model.save_changes();
    this.show();
    this.ask();
  }

  show() {
    const prompted = this.state.source === "prompt";
    for (const one of this.sources.querySelectorAll("input")) one.checked = one.value === this.state.source;
    this.picture.element.hidden = prompted;
    this.prompt.hidden = !prompted;
    if (document.activeElement !== this.prompt) this.prompt.value = this.state.prompt;
    this.words.show(this.state.concepts);
    this.models.show(this.state);
    this.more.show(this.state, this.facts.blocks);
  }

  /** An example brings its words, unless others were typed. */
  takeExample(name) {
    this.fail("");
    const own = this.meta.examples.map(({ words }) => words.join("\n"));
    if (!this.state.concepts.length || own.includes(this.state.concepts.join("\n"))) {
      this.change({ concepts: this.meta.examples.find((one) => one.name === name).words });
    }
    this.send("example", { name });
  }

  run() {
    this.words.add(this.words.entry.value);
    this.fail("");
    this.warn([]);
    this.send("run", { form: this.state });
  }

  stop() {
    this.end.disabled = true;
    this.stopping = true;
    this.status.textContent = "Stopping…";
    this.send("stop");
  }

  busy(on) {
    Object.assign(this, { running: on, stopping: false });
    this.go.disabled = on;
    this.end.disabled = !on;
    this.bar.hidden = !on;
    this.bar.removeAttribute("value");
    this.root.dataset.running = String(on);
    if (on) this.status.textContent = "Running…";
    else this.ask();
  }

  progress({ done, total, remaining }) {
    this.bar.max = total;
    this.bar.value = done;
    const left = remaining === null || done === total ? "" : `, about ${duration(remaining)} left`;
    if (!this.stopping) this.status.textContent = done === total ? "Storing…" : `${done} of ${total} passes${left}`;
  }

  /** There is no kernel that could answer. */
  lose(text) {
    if (this.running) this.busy(false);
    this.status.textContent = "";
    this.fail(text);
  }

  fail(text) {
    this.error.textContent = sentence(text);
    this.error.hidden = !text;
  }

  warn(notes) {
    this.notes.hidden = !notes.length;
    this.notes.replaceChildren(...notes.map((text) => h("p.wb-note", {}, sentence(text))));
  }

  /** A finished run is what is shown below; 0 where it is a part of one, which has no code and is none of the history. */
  present(number) {
    this.shown = number;
    const row = this.rows.find((one) => one.number === number);
    this.result.hidden = !this.rows.length;
    this.copy.hidden = !row;
    this.root.dataset.shown = number;
    if (!row) this.drawer.hidden = true;
    this.copy.setAttribute("aria-expanded", String(!this.drawer.hidden));
    this.history.replaceChildren(...this.rows.map((one) =>
      button(`${one.number}: ${one.what}`, {
        data: { run: one.number }, "aria-pressed": String(one.number === number), title: `${one.model}, ${one.key}`, onclick: () => this.recall(one),
      })
    ));
    this.code.textContent = row?.code ?? "";
    this.warn(row?.notes ?? []);
  }

  recall(row) {
    if (this.running) return this.fail("A run is under way: wait for it, or stop it first.");
    this.fail("");
    this.change(row.form);
    return this.send("show", { number: row.number });
  }

  async copyCode() {
    this.drawer.hidden = !this.drawer.hidden;
    this.copy.setAttribute("aria-expanded", String(!this.drawer.hidden));
    if (this.drawer.hidden) return;
    try {
      await navigator.clipboard.writeText(this.code.textContent);
      this.status.textContent = "Copied: paste it into a cell.";
    } catch {
      this.status.textContent = "Select the code and copy it.";
    }
  }

  /** The view below is about to be replaced: the page keeps its height until the new one is drawn. */
  hold() {
    const box = this.root.closest(".wb-start-box");
    if (!box) return;
    box.style.minHeight = `${box.offsetHeight}px`;
    clearTimeout(this.holding);
    this.holding = setTimeout(() => (box.style.minHeight = ""), 1500);
  }

  hear(message, buffers) {
    clearTimeout(this.silent);
    unanswered(this.root, false);
    const { type } = message;
    if (type === "ready") {
      this.fail("");
      this.rows = message.rows;
      this.picture.fill(buffers);
      this.present(message.shown);
      if (message.running) this.busy(true);
      this.ask();
      this.root.dataset.ready = "true";
    } else if (type === "models") this.models.offer(message.kernel);
    else if (type === "picture") {
      this.picture.show(message, buffers[0]);
      this.warn(message.notes);
    } else if (type === "facts" || type === "words") this.tell(message);
    else if (type === "started") this.busy(true);
    else if (type === "stage" && !this.stopping) this.status.textContent = message.text;
    else if (type === "progress") this.progress(message);
    else if (type === "swap") {
      this.hold();
      if (message.growing && this.shown) this.present(0);
    }
    else if (type === "done") {
      const { row } = message;
      this.busy(false);
      this.status.textContent = row.stored ? "It was stored already: opened, nothing was computed." : `Done in ${duration(row.seconds)}.`;
      this.rows = [...this.rows, row];
      this.present(row.number);
    } else if (type === "showing") this.present(message.number);
    else if (type === "stopped") {
      this.busy(false);
      if (message.back) this.present(message.back);
      const kept = message.passes ? "passes that were finished are kept, and Run goes on from there." : "";
      const shown = message.back ? `run ${message.back} is shown again` : message.part ? "what is shown is not finished" : "";
      this.status.textContent = sentence(["Stopped", [shown, kept].filter(Boolean).join("; ")].filter(Boolean).join(": "));
    } else if (type === "failed") {
      if (message.of === "run") {
        this.busy(false);
        if (message.back) this.present(message.back);
        this.status.textContent = message.back ? `Run ${message.back} is shown again.` : "";
        this.warn(message.notes ?? []);
      } else if (message.of === "take") this.picture.drop();
      this.fail(message.error);
    }
  }

  /** What the kernel knows of the model, and then of the words. */
  tell({ form, remarks, facts, error = "" }) {
    if (form.model !== this.state.model || form.kernel !== this.state.kernel) return;
    this.facts = facts;
    this.models.tell(facts, error, this.models.naming);
    this.words.know(facts.words ?? [], this.meta.backgrounds);
    this.more.show(this.state, facts.blocks);
    if (!remarks) return;
    this.words.say(remarks);
    this.root.dataset.looked = form.concepts.join(",");
  }

  dispose() {
    clearTimeout(this.silent);
    this.ask.cancel();
    this.picture.dispose();
  }
}

function render({ model, el }) {
  const root = h("div.wb-view.wb-start", {});
  el.append(root);
  const panel = new StartPanel(model, root);
  const hear = (message, buffers) => {
    try {
      panel.hear(message, buffers);
    } catch (error) {
      panel.fail(`This could not be shown (${error.message}).`);
      console.warn(error);
    }
  };
  const follow = () => {
    panel.state = model.get("state");
    panel.show();
  };
  model.on("msg:custom", hear);
  model.on("change:state", follow);
  root.workbench = panel;
  panel.send("ready");
  return () => {
    panel.dispose();
    model.off("msg:custom", hear);
    model.off("change:state", follow);
  };
}

export default { render };
