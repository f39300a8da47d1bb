// Taking the view away: a picture of it, its state as JSON, or a page that works without a kernel.

/** The panels with their names, the colour scale and the selection, as a canvas of twice the size on the page. */
function snapshot(view) {
  const { store } = view;
  const style = getComputedStyle(view.root);
  const [ink, paper] = [style.color, style.getPropertyValue("--wb-paper").trim() || "#fff"];
  const { columns, side } = view.arrangement;
  const tall = (side * store.rows) / store.columns;
  const [caption, margin, foot] = [20, 12, 64];
  const rows = Math.ceil(view.panels.length / columns);
  const width = Math.max(columns * (side + GAP) - GAP, 360) + 2 * margin;
  const height = 26 + rows * (tall + caption + GAP) + foot + margin;
  const scale = 2;
  const canvas = Object.assign(document.createElement("canvas"), { width: width * scale, height: height * scale });
  const context = canvas.getContext("2d");
  context.scale(scale, scale);
  context.fillStyle = paper;
  context.fillRect(0, 0, width, height);
  const family = style.fontFamily || "sans-serif";
  const write = (text, x, y, size, most = width - 2 * margin) => {
    context.fillStyle = ink;
    context.font = `${size}px ${family}`;
    while (context.measureText(text).width > most && text.length > 1) text = `${text.slice(0, -2).trimEnd()}…`;
    context.fillText(text, x, y);
  };
  write(view.sentence(), margin, margin + 10, 12);
  view.panels.forEach((panel, index) => {
    const x = margin + (index % columns) * (side + GAP);
    const y = 30 + Math.floor(index / columns) * (tall + caption + GAP);
    const swatch = panel.kind === "concept";
    if (swatch) {
      context.fillStyle = conceptColour(panel.index);
      context.fillRect(x, y + 4, 10, 10);
    }
    write(panel.title, x + (swatch ? 15 : 0), y + 13, 12, side - 16);
    context.imageSmoothingEnabled = store.state.smooth;
    context.drawImage(panel.canvas, x, y + caption, side, tall);
  });
  if (store.maps) {
    const { cmap, limits } = store.scale();
    const y = height - foot;
    const colours = colourMap(cmap);
    for (let i = 0; i < 256; i++) {
      context.fillStyle = `rgb(${colours[3 * i]},${colours[3 * i + 1]},${colours[3 * i + 2]})`;
      context.fillRect(margin + i, y, 1.5, 10);
    }
    write(number(limits[0]), margin, y + 24, 11);
    const end = number(limits[1]);
    write(end, margin + 256 - context.measureText(end).width, y + 24, 11);
    write(view.meaning(), margin, y + 40, 11);
  }
  return canvas;
}

function savePicture(view) {
  snapshot(view).toBlob((blob) => download("concepts.png", blob), "image/png");
}

function saveState(view) {
  const text = JSON.stringify(view.store.state, null, 2);
  download("state.json", new Blob([text], { type: "application/json" }));
}
