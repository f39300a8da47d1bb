// The panels: the picture, one map for each concept, their difference, the areas and the truth.

const NARROWEST = 150;
const NARROWEST_BESIDE = 110; // in a view as narrow as one of two in a page of 700 pixels
const WIDEST = 340;
const TALLEST = 540;
const CAPTION = 30;
const GAP = 10;
const SMOOTH_SIDE = 256;

class Panel {
  /** tabstop: whether its name is reached with Tab; not where another button does the same. */
  constructor(kind, title, { index = null, colour = null, onpick = null, tabstop = true } = {}) {
    Object.assign(this, { kind, title, index });
    this.canvas = h("canvas.wb-canvas", { role: "img", "aria-label": title });
    this.value = h("span.wb-value", {});
    const swatch = colour ? h("span.wb-swatch", { style: { background: colour } }) : null;
    const name = onpick
      ? h("button.wb-name", { type: "button", onclick: onpick, title: `Pick ${title}`, tabindex: tabstop ? null : -1 }, swatch, h("span", {}, title))
      : h("span.wb-name", {}, swatch, h("span", {}, title));
    this.name = name;
    this.element = h("figure.wb-panel", { data: { kind } }, h("figcaption", {}, name, this.value), this.canvas);
    if (kind === "concept") Object.assign(this.element.dataset, { index, concept: title });
  }

  /** Fit the bitmap to a width on the page, with the shape of the grid. */
  resize(width, ratio) {
    const scale = window.devicePixelRatio || 1;
    const size = [Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(width * ratio * scale))];
    this.canvas.style.height = `${width * ratio}px`;
    if (this.canvas.width !== size[0]) this.canvas.width = size[0];
    if (this.canvas.height !== size[1]) this.canvas.height = size[1];
  }
}

/** Paints onto one canvas after another; keeps the small bitmaps it needs for that. */
class Painter {
  constructor(rows, columns) {
    Object.assign(this, { rows, columns });
    this.small = document.createElement("canvas");
    this.pictures = {};
    this.fitted = new Map();
  }

  /** Keep a picture in colour and in grey. */
  setPicture(bitmap) {
    this.pictures = {};
    this.fitted.clear();
    if (!bitmap) return;
    const grey = Object.assign(document.createElement("canvas"), { width: bitmap.width, height: bitmap.height });
    const context = grey.getContext("2d");
    context.drawImage(bitmap, 0, 0);
    const pixels = context.getImageData(0, 0, grey.width, grey.height);
    for (let i = 0; i < pixels.data.length; i += 4) {
      const light = 0.299 * pixels.data[i] + 0.587 * pixels.data[i + 1] + 0.114 * pixels.data[i + 2];
      pixels.data.fill(light, i, i + 3);
    }
    context.putImageData(pixels, 0, 0);
    this.pictures = { colour: bitmap, grey };
  }

  /** The picture at the size of the panels: scaling it for every panel and frame would cost most of the time. */
  fit(picture, width, height) {
    const held = this.fitted.get(picture);
    if (held && held.width === width && held.height === height) return held;
    const canvas = Object.assign(document.createElement("canvas"), { width, height });
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(picture, 0, 0, width, height);
    this.fitted.set(picture, canvas);
    return canvas;
  }

  ground(canvas, picture) {
    const context = canvas.getContext("2d");
    context.globalAlpha = 1;
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (picture) context.drawImage(this.fit(picture, canvas.width, canvas.height), 0, 0);
    return context;
  }

  picture(panel) {
    this.ground(panel.canvas, this.pictures.colour);
  }

  /** values (patch) through a colour map between two ends. */
  map(panel, values, [low, high], cmap, { smooth, opacity, picture }) {
    const under = picture ? this.pictures.grey : null;
    const context = this.ground(panel.canvas, under);
    let [height, width] = [this.rows, this.columns];
    if (smooth) {
      const factor = Math.max(1, Math.floor(SMOOTH_SIDE / Math.max(height, width)));
      values = bilinear(values, height, width, height * factor, width * factor);
      [height, width] = [height * factor, width * factor];
    }
    const colours = colourMap(cmap);
    const span = high > low ? 255 / (high - low) : 0;
    this.stamp(context, height, width, smooth, under ? opacity : 1, (pixels) => {
      for (let i = 0; i < values.length; i++) {
        const level = span ? Math.round((values[i] - low) * span) : 127;
        const at = 3 * Math.min(Math.max(level, 0), 255);
        const bytes = colours[at] | (colours[at + 1] << 8) | (colours[at + 2] << 16);
        pixels[i] = Number.isNaN(values[i]) ? 0 : bytes | 0xff000000;
      }
    });
  }

  /** labels (patch) in the concepts' colours; -1 stays clear. */
  areas(panel, labels, colours, { opacity, picture }, focus = null) {
    const under = picture ? this.pictures.grey : null;
    const context = this.ground(panel.canvas, under);
    this.stamp(context, this.rows, this.columns, false, under ? Math.max(opacity, 0.35) : 1, (pixels) => {
      for (let i = 0; i < labels.length; i++) {
        const [r, g, b] = colours[labels[i]] ?? [0, 0, 0];
        const alpha = labels[i] < 0 ? 0 : focus === null || labels[i] === focus ? 255 : 110;
        pixels[i] = r | (g << 8) | (b << 16) | (alpha << 24);
      }
    });
  }

  stamp(context, height, width, smooth, opacity, write) {
    const { small } = this;
    if (small.width !== width || small.height !== height) Object.assign(small, { width, height });
    const brush = small.getContext("2d", { willReadFrequently: true });
    const image = brush.createImageData(width, height);
    write(new Uint32Array(image.data.buffer));
    brush.putImageData(image, 0, 0);
    context.globalAlpha = opacity;
    context.imageSmoothingEnabled = smooth;
    context.drawImage(small, 0, 0, context.canvas.width, context.canvas.height);
    context.globalAlpha = 1;
  }

  /** A frame around a patch, or so many across: dashed where the pointer is, solid where it is pinned. */
  mark(panel, [row, column], pinned, across = 1) {
    const context = panel.canvas.getContext("2d");
    const [wide, tall] = [panel.canvas.width / this.columns, panel.canvas.height / this.rows];
    const scale = window.devicePixelRatio || 1;
    const least = 9 * scale;
    const [w, t] = [Math.max(wide * across, least), Math.max(tall * across, least)];
    const [x, y] = [(column + 0.5) * wide - w / 2, (row + 0.5) * tall - t / 2];
    for (const [colour, width] of [["#000", 3.5], ["#fff", 1.5]]) {
      context.strokeStyle = colour;
      context.lineWidth = width * scale;
      context.setLineDash(pinned || colour === "#000" ? [] : [3 * scale, 2 * scale]);
      context.strokeRect(x, y, w, t);
    }
    context.setLineDash([]);
  }
}

/** How many panels in a row, and how wide: rows as even as possible, and all of them low enough to be seen at once. */
function arrange(count, width, ratio) {
  const least = width < 2 * NARROWEST + GAP ? NARROWEST_BESIDE : NARROWEST;
  const most = Math.max(1, Math.floor((width + GAP) / (least + GAP)));
  const rows = Math.ceil(count / most);
  const columns = rows > 2 ? most : Math.ceil(count / rows);
  const fitting = rows > 2 ? WIDEST : Math.max(least, (TALLEST / rows - CAPTION) / ratio);
  return { columns, side: Math.floor(Math.min(WIDEST, fitting, (width - GAP * (columns - 1)) / columns)) };
}

/** The shared colour scale: a bar with its numbers and what they mean. */
class ColourBar {
  constructor() {
    this.bar = h("div.wb-bar", {});
    this.scale = h("div.wb-scale", {});
    this.meaning = h("div.wb-meaning", {});
    this.element = h("div.wb-colours", { role: "img" }, h("div.wb-ramp", {}, this.bar, this.scale), this.meaning);
  }

  show(cmap, [low, high], meaning) {
    this.bar.style.background = gradient(cmap);
    const place = (value) => (high > low ? ((value - low) / (high - low)) * 100 : 50);
    const written = high > low ? ticks(low, high) : [low];
    this.scale.replaceChildren(
      ...written.map((value) => h("span", { style: { left: `${place(value)}%` } }, plain(Number(value.toPrecision(3)))))
    );
    this.meaning.textContent = meaning;
    this.element.setAttribute("aria-label", `Colours from ${number(low)} to ${number(high)}: ${meaning}`);
  }
}
