// What curves and matrices share: scales, ticks, lines, bands, cells, and what arrow keys and the pointer mean.

/** A position among so many. */
const within = (at, count) => Math.min(Math.max(at, 0), count - 1);

/** The step of an arrow key, [right, up], which then means nothing to the page; null for other keys. */
function arrow(event) {
  const by = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, -1], ArrowUp: [0, 1] }[event.key];
  if (!by || event.altKey || event.ctrlKey || event.metaKey) return null;
  event.preventDefault();
  event.stopPropagation();
  return by;
}

/** The numbers among some values, with what is nested. */
function finite(values) {
  return values.flat(3).filter((value) => Number.isFinite(value));
}

/** Least and greatest of some numbers; 0 to 1 of none. */
function endsOf(values) {
  // Of too many to be arguments of one call, too.
  const least = (one, other) => (other < one ? other : one);
  const most = (one, other) => (other > one ? other : one);
  return values.length ? [values.reduce(least), values.reduce(most)] : [0, 1];
}

/** The same distance to both sides of zero. */
function symmetric(ends) {
  const most = Math.max(...ends.map(Math.abs)) || 1;
  return [-most, most];
}

function setSize(svg, width, height) {
  svg.setAttribute("width", width);
  svg.setAttribute("height", height);
}

function reveal(element, shown) {
  element.setAttribute("visibility", shown ? "visible" : "hidden");
}

/** So many points side by side in a box, with values between two ends. */
class Plane {
  /** pad: pixels from the box to the first and the last point. */
  constructor(box, count, [low, high], pad) {
    Object.assign(this, { box, count, low, high, pad });
    this.step = count > 1 ? (box.right - box.left - 2 * pad) / (count - 1) : 0;
  }

  x(i) {
    return this.count > 1 ? this.box.left + this.pad + i * this.step : (this.box.left + this.box.right) / 2;
  }

  y(value) {
    return this.box.bottom - ((value - this.low) / (this.high - this.low)) * (this.box.bottom - this.box.top);
  }

  /** The point that is nearest to a distance from the left. */
  nearest(pixels) {
    return within(Math.round(this.step ? (pixels - this.box.left - this.pad) / this.step : 0), this.count);
  }

  /** Round values, each with a line across; and a line at zero, where values lie on both sides. */
  scale(about) {
    const { box, low, high } = this;
    const across = (kind, value) => s(`line.${kind}`, { x1: box.left, x2: box.right, y1: this.y(value), y2: this.y(value) });
    const marks = ticks(low, high, about).flatMap((value) => [
      across("wb-grid", value),
      s("text", { x: box.left - 6, y: this.y(value), "text-anchor": "end", "dominant-baseline": "central" }, plain(Number(value.toPrecision(3)))),
    ]);
    return low < 0 && high > 0 ? [...marks, across("wb-zero", 0)] : marks;
  }

  /** The names of the points, as many as fit, and what they are. */
  names(texts, meaning) {
    const { box } = this;
    const room = 8 * Math.max(3, ...texts.map((text) => text.length));
    const every = Math.max(1, Math.ceil((texts.length * room) / (box.right - box.left)));
    const named = texts.map((text, i) => (i % every ? null : s("text", { x: this.x(i), y: box.bottom + 14, "text-anchor": "middle" }, text)));
    return [...named, s("text.wb-axis", { x: (box.left + box.right) / 2, y: box.bottom + 31, "text-anchor": "middle" }, meaning)];
  }

  /** The path of a line, broken where there is no number. */
  path(values) {
    let pen = "M";
    return [...values].map((value, i) => {
      const part = Number.isFinite(value) ? `${pen}${this.x(i).toFixed(1)},${this.y(value).toFixed(1)}` : "";
      pen = part ? "L" : "M";
      return part;
    }).join("");
  }

  /** A line, on an edge that lets pale colours stand out. */
  line(values, { colour, width, dash = "none", edged = true }) {
    const d = this.path(values);
    return [
      edged ? s("path.wb-edge", { d, "stroke-width": width + 1, "stroke-dasharray": dash }) : null,
      s("path", { d, fill: "none", stroke: colour, "stroke-width": width, "stroke-dasharray": dash }),
    ];
  }

  /** The path of a band between two lines; a bar at each point where they are not joined. */
  band(lower, upper, joined) {
    const at = (i, values) => `${this.x(i)},${this.y(values[i])}`;
    const bar = (i) => `M${this.x(i) - 5},${this.y(lower[i])}H${this.x(i) + 5}V${this.y(upper[i])}H${this.x(i) - 5}Z`;
    const runs = [[]];
    for (let i = 0; i < this.count; i++) {
      if (Number.isFinite(lower[i]) && Number.isFinite(upper[i])) runs.at(-1).push(i);
      else runs.push([]);
    }
    const drawn = runs.map((run) => {
      if (run.length < 2 || !joined) return run.map(bar).join("");
      return `M${[...run.map((i) => at(i, upper)), ...run.toReversed().map((i) => at(i, lower))].join("L")}Z`;
    });
    return drawn.join("");
  }
}

/** The cells of a matrix: made anew only where they lie elsewhere than before, otherwise coloured. */
class Cells {
  constructor() {
    this.group = s("g");
    this.made = [];
  }

  /** Each of cells is [x, y, kind, fill, "row,column", value]; all have one size. */
  draw(cells, [width, height]) {
    const layout = JSON.stringify([width, height, ...cells.map(([x, y]) => [x, y])]);
    if (this.layout !== layout) {
      this.layout = layout;
      const blank = s("rect", { width, height });
      this.made = cells.map(([x, y]) => {
        const one = blank.cloneNode();
        one.setAttribute("x", x);
        one.setAttribute("y", y);
        return one;
      });
      this.group.replaceChildren(...this.made);
    }
    cells.forEach(([, , kind, fill, cell, value], i) => {
      const one = this.made[i];
      one.setAttribute("class", kind);
      one.setAttribute("fill", fill);
      one.dataset.cell = cell;
      one.dataset.value = value ?? "";
    });
    return this.group;
  }
}

/** Where the cells of a matrix lie: rows from the top, or upwards, where upwards is deeper. */
class Grid {
  constructor({ left, top = 4, wide, tall, rows, columns, upwards }) {
    Object.assign(this, { left, top, wide, tall, rows, columns, upwards });
    this.right = left + wide * columns;
    this.bottom = top + tall * rows;
  }

  x(column) {
    return this.left + column * this.wide;
  }

  y(row) {
    return this.top + (this.upwards ? this.rows - 1 - row : row) * this.tall;
  }

  /** Row and column under the pointer, also those outside the matrix. */
  at(event, svg) {
    const frame = svg.getBoundingClientRect();
    const down = Math.floor((event.clientY - frame.top - this.top) / this.tall);
    const column = Math.floor((event.clientX - frame.left - this.left) / this.wide);
    return [this.upwards ? this.rows - 1 - down : down, column];
  }

  holds([row, column]) {
    return row >= 0 && row < this.rows && column >= 0 && column < this.columns;
  }

  /** Put a frame around some rows and columns, from the first to the last of each. */
  frame(rect, [row, lastRow = row], [column, lastColumn = column]) {
    const top = Math.min(this.y(row), this.y(lastRow));
    const box = { x: this.x(column) - 1, y: top - 1, width: (lastColumn - column + 1) * this.wide + 1, height: (Math.abs(lastRow - row) + 1) * this.tall + 1 };
    for (const [name, value] of Object.entries(box)) rect.setAttribute(name, value);
  }

  /** Draw values (row, column) through a colour map between two ends; name: what a cell is called, from both. */
  cells(cells, values, [low, high], cmap, name = (row, column) => `${row},${column}`) {
    const colours = colourMap(cmap);
    const filled = values.flatMap((line, row) =>
      [...line].map((value, column) => {
        const known = Number.isFinite(value);
        const level = 3 * Math.round(high > low ? (255 * (value - low)) / (high - low) : 127);
        const fill = known ? `rgb(${colours[level]},${colours[level + 1]},${colours[level + 2]})` : "none";
        return [this.x(column), this.y(row), known ? "wb-cell" : "wb-nothing", fill, name(row, column), value];
      })
    );
    return cells.draw(filled, [this.wide - 1, this.tall - 1]);
  }

  /** The names of rows and columns, as many as fit. */
  names(down, across) {
    const everyColumn = Math.max(1, Math.ceil((8 * Math.max(2, ...across.map((name) => name.length))) / this.wide));
    const everyRow = Math.max(1, Math.ceil(13 / this.tall));
    return [
      ...across.map((name, column) => (column % everyColumn ? null : s("text", { x: this.x(column + 0.5), y: this.bottom + 14, "text-anchor": "middle" }, name))),
      ...down.map((name, row) => (row % everyRow ? null : s("text", { x: this.left - 6, y: this.y(row) + 0.5 * this.tall, "text-anchor": "end", "dominant-baseline": "central" }, name))),
    ].filter(Boolean);
  }
}
