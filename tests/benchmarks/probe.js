// From a key press to the first frame in which every map of a view has changed.
(() => {
  const readers = {
    canvas: (root) =>
      [...root.querySelectorAll(".wb-panel[data-kind=concept] canvas.wb-canvas")].map((canvas) => {
        const row = canvas.getContext("2d").getImageData(0, canvas.height >> 1, canvas.width, 1).data;
        return row.join();
      }),
    plotly: (root) =>
      [...root.querySelectorAll(".heatmaplayer image")].map((image) => image.getAttribute("xlink:href") ?? image.getAttribute("href")),
  };

  // Calls back once the browser has rendered the next frame.
  const afterFrame = (then) =>
    requestAnimationFrame(() => {
      const {port1, port2} = new MessageChannel();
      port1.onmessage = then;
      port2.postMessage(null);
    });

  const changed = (before, now) =>
    now.length === before.length && now.length > 0 && now.every((map, index) => map !== before[index]);

  window.probe = {
    arm(kind, root) {
      const before = readers[kind](root);
      let pressed = null;
      window.addEventListener("keydown", (event) => { pressed = event.timeStamp; }, {capture: true, once: true});
      this.painted = new Promise((resolve, reject) => {
        setTimeout(reject, 5000, Error(`${kind}: not every map has changed after five seconds`));
        const look = () => {
          if (pressed !== null && changed(before, readers[kind](root))) resolve(performance.now() - pressed);
          else afterFrame(look);
        };
        afterFrame(look);
      });
      return before.length;
    },

    // Runs a cell; resolves with the milliseconds until `selector` matches after a frame.
    async firstPaint(source, selector) {
      const notebook = jupyterapp.shell.currentWidget.content;
      const cells = notebook.model.sharedModel;
      cells.insertCell(cells.cells.length, {cell_type: "code", source});
      notebook.activeCellIndex = cells.cells.length - 1;
      notebook.deselectAll();
      const start = performance.now();
      const ran = jupyterapp.commands.execute("notebook:run-cell");
      const painted = await new Promise((resolve, reject) => {
        setTimeout(reject, 60_000, Error(`${selector} has not come after a minute`));
        const look = () => (document.querySelector(selector) ? resolve(performance.now() - start) : afterFrame(look));
        afterFrame(look);
      });
      await ran;
      return painted;
    },
  };
})();
