// Taking the view away: a picture of it, its state as JSON, or a page that works without a kernel.

/** The panels with their names, the colour scale and the selection, as a canvas of twice the size on the page. */
function snapshot(view) {
  const { hover } = view;
  view.hover = null; // the picture shows what was chosen, not where the pointer is
  view.paint();
  const canvas = drawn(view);
  view.hover = hover;
  view.paint();
  return canvas;
}

function drawn(view) {
  const { store } = view;
  const style = getComputedStyle(view.root);
  const [ink, paper] = [style.color, style.getPropertyValue("--wb-paper").trim() || "#fff"];
  const { columns, side } = view.arrangement;
  const tall = (side * store.rows) / store.columns;
  const [caption, margin, foot] = [20, 12, 92];
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
  let x = margin;
  const chips = [...view.legend.children].filter(() => !view.legend.hidden);
  chips.forEach((chip, index) => {
    const text = [...chip.children].slice(1).map((part) => part.textContent).join(" ");
    context.font = `11px ${family}`;
    const wide = context.measureText(text).width + 30;
    if (x + wide > width - margin) return;
    context.fillStyle = conceptColour(index);
    context.fillRect(x, height - margin - 10, 9, 9);
    write(text, x + 14, height - margin - 2, 11);
    x += wide;
  });
  return canvas;
}

/** Where the view comes from, as its files keep it. */
function factsOf({ store }) {
  return { ...store.meta.run, state: store.state, code: store.code() };
}

function savePicture(view) {
  snapshot(view).toBlob(async (blob) => {
    const texts = { Title: view.sentence(), Software: "concept-workbench", workbench: ascii(JSON.stringify(factsOf(view))) };
    download(`${view.store.meta.file}.png`, new Blob([withTexts(await blob.arrayBuffer(), texts)], { type: "image/png" }));
  }, "image/png");
}

function saveState(view) {
  const { meta, state } = view.store;
  const text = JSON.stringify({ run: meta.run, state }, null, 2);
  download(`${meta.file}.json`, new Blob([text], { type: "application/json" }));
}

/** JSON without letters beyond ASCII. */
function ascii(json) {
  return json.replace(/[^\x20-\x7e]/g, (letter) => `\\u${letter.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

/** A PNG file with texts (iTXt chunks) behind its header; control characters, which would end a text, become spaces. */
function withTexts(file, texts) {
  const bytes = new Uint8Array(file);
  const header = 33;
  const chunks = Object.entries(texts).map(([name, text]) => {
    const content = new TextEncoder().encode(`iTXt${name}\0\0\0\0\0${text.replace(/\p{Cc}/gu, " ")}`);
    const chunk = new Uint8Array(content.length + 8);
    const view = new DataView(chunk.buffer);
    view.setUint32(0, content.length - 4);
    chunk.set(content, 4);
    view.setUint32(content.length + 4, crc32(content));
    return chunk;
  });
  const parts = [bytes.subarray(0, header), ...chunks, bytes.subarray(header)];
  const found = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    found.set(part, at);
    at += part.length;
  }
  return found;
}

/** The checksum of a chunk of a PNG file. */
function crc32(bytes) {
  let crc = -1;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc >>> 0;
}
