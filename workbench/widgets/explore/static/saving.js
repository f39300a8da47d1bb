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
  const family = style.fontFamily || "sans-serif";
  const { columns, side } = view.arrangement;
  const tall = (side * store.rows) / store.columns;
  const [caption, margin, scale] = [20, 12, 2];
  const width = Math.max(columns * (side + GAP) - GAP, 360) + 2 * margin;
  const canvas = document.createElement("canvas");
  const context = canvas.getContext("2d");
  const wide = (text, size) => {
    context.font = `${size}px ${family}`;
    return context.measureText(text).width;
  };
  const glance = store.glance();
  const said = [view.sentence(), ...(glance ? [`${glance.name} ${glance.text}`] : [])].join(" · ");
  const head = flowed(said.split(" "), (word) => wide(`${word} `, 12), width - 2 * margin);
  const chips = view.legend.hidden ? [] : [...view.legend.querySelectorAll("[data-concept-chip]")];
  const named = chips.map((chip, index) => ({ index, text: [...chip.children].slice(1).map((part) => part.textContent).join(" ") }));
  const legend = flowed(named, ({ text }) => wide(text, 11) + 30, width - 2 * margin);
  const difference = store.difference();
  const scales = store.maps ? [{ ...store.scale(), meaning: view.meaning() }] : [];
  if (difference) scales.push({ cmap: "diverging", limits: difference.limits, meaning: "difference" });
  const top = margin + 4 + 16 * head.length;
  const below = top + Math.ceil(view.panels.length / columns) * (tall + caption + GAP);
  const height = below + 48 * scales.length + 18 * legend.length + margin;
  Object.assign(canvas, { width: width * scale, height: Math.ceil(height * scale) });
  context.scale(scale, scale);
  context.fillStyle = paper;
  context.fillRect(0, 0, width, height);
  const write = (text, x, y, size, most = width - 2 * margin) => {
    context.fillStyle = ink;
    while (wide(text, size) > most && text.length > 1) text = `${text.slice(0, -2).trimEnd()}…`;
    context.fillText(text, x, y);
  };
  head.forEach((words, line) => write(words.join(" "), margin, margin + 10 + 16 * line, 12));
  view.panels.forEach((panel, index) => {
    const x = margin + (index % columns) * (side + GAP);
    const y = top + Math.floor(index / columns) * (tall + caption + GAP);
    const swatch = panel.kind === "concept";
    if (swatch) {
      context.fillStyle = conceptColour(panel.index);
      context.fillRect(x, y + 4, 10, 10);
    }
    write(panel.title, x + (swatch ? 15 : 0), y + 13, 12, side - 16);
    context.imageSmoothingEnabled = store.state.smooth;
    context.drawImage(panel.canvas, x, y + caption, side, tall);
  });
  scales.forEach(({ cmap, limits, meaning }, index) => {
    const y = below + 48 * index;
    const colours = colourMap(cmap);
    for (let i = 0; i < 256; i++) {
      context.fillStyle = `rgb(${colours[3 * i]},${colours[3 * i + 1]},${colours[3 * i + 2]})`;
      context.fillRect(margin + i, y, 1.5, 10);
    }
    const end = number(limits[1]);
    write(number(limits[0]), margin, y + 24, 11);
    write(end, margin + 256 - wide(end, 11), y + 24, 11);
    write(meaning, margin, y + 40, 11);
  });
  legend.forEach((line, row) => {
    let x = margin;
    const y = below + 48 * scales.length + 18 * row;
    for (const { index, text } of line) {
      context.fillStyle = conceptColour(index);
      context.fillRect(x, y + 2, 9, 9);
      write(text, x + 14, y + 10, 11);
      x += wide(text, 11) + 30;
    }
  });
  return canvas;
}

/** Things in lines of a width, as many in each as fit. */
function flowed(things, wide, room) {
  const lines = [];
  let left = 0;
  for (const one of things) {
    if (!lines.length || wide(one) > left) {
      lines.push([]);
      left = room;
    }
    lines.at(-1).push(one);
    left -= wide(one);
  }
  return lines;
}

/** Where the view comes from, as its files keep it: they are read where no variable of the notebook is. */
function factsOf({ store }) {
  const { state, names, meta } = store;
  return { ...meta.run, state, code: codeOf({ state, names, meta: { ...meta, source: meta.reopening ?? meta.source } }) };
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
