// One view: the controls, the panels, what unfolds, and the keys. It draws what the store holds and computes nothing.

class View extends ViewKeys {
  constructor(store, el) {
    super();
    this.store = store;
    this.panels = [];
    this.hover = null;
    this.root = h("div.wb-view", { tabindex: 0, role: "group", "aria-label": "Concept maps; press ? for the keys" });
    el.append(this.root);
    if (store.failure) {
      this.root.append(h("p.wb-error", { role: "alert" }, store.failure));
      return;
    }
    this.painter = new Painter(store.rows, store.columns);
    this.build();
    this.root.addEventListener("keydown", (event) => this.guard(() => this.key(event)));
    this.observer = new ResizeObserver(() => this.guard(() => this.layout()));
    this.observer.observe(this.root);
    this.root.workbench = this.hooks();
    store.attach(this);
    this.update("picture");
    this.update("state");
    this.update("slow");
    if (store.maps) store.schedule();
  }

  dispose() {
    this.stop();
    this.observer?.disconnect();
    if (!this.store.failure) this.store.detach(this);
    this.root.remove();
  }

  /** A failure of ours leaves the rest of the view working. */
  guard(action) {
    try {
      action();
    } catch (error) {
      this.failure(error);
    }
  }

  failure(error) {
    console.warn("workbench: a part of the view failed", error);
    this.failed.hidden = false;
    this.failed.textContent = `A part of this view failed (${error.message}). The rest still works; running the cell again makes a fresh view.`;
  }

  /** What tests, scripts and views beside this one may use; nothing in here is needed to draw. */
  hooks() {
    const { store } = this;
    return {
      get state() { return structuredClone(store.state); },
      get maps() {
        if (!store.maps) return null;
        const [low, high] = store.scale().limits;
        return { values: store.maps, shape: [store.concepts, store.rows, store.columns], low, high };
      },
      get labels() { return store.labels; },
      get code() { return store.code(); },
      get times() { return { changed: store.changedAt, painted: store.paintedAt }; },
      set: (patch) => store.change(patch),
      point: (place) => this.followPoint(place),
      snapshot: () => snapshot(this),
      settled: async () => {
        while (store.painted !== store.revision) await new Promise((resolve) => setTimeout(resolve, 5));
      },
    };
  }

  // --- following the store -----------------------------------------------------------------------------------

  update(what) {
    this.guard(() => {
      if (what === "state") this.follow();
      else if (what === "paint") this.paint();
      else if (what === "slow") this.unfold();
      else if (what === "picture") this.painter.setPicture(this.store.bitmap);
      else if (what === "panels") {
        this.truthLabels = null;
        this.arrangePanels();
      }
      this.stamp();
    });
  }

  stamp() {
    const { store } = this;
    const now = { revision: store.revision, painted: store.painted, source: store.source ?? "", cube: store.cubeState, live: store.live };
    for (const [name, value] of Object.entries(now)) {
      if (this.root.dataset[name] !== String(value)) this.root.dataset[name] = value;
    }
  }
}

export default () => {
  let store = null;
  return {
    initialize({ model }) {
      store = new Store(model);
      return () => store.dispose();
    },
    render({ model, el }) {
      store ??= new Store(model);
      const view = new View(store, el);
      return () => view.dispose();
    },
  };
};
