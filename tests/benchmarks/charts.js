// The figures of views beside the same ones in plotly: each is drawn anew, and changed, in turns. What is timed ends with
// the first frame in which it is on screen.
window.trial = (() => {
  const afterFrame = () =>
    new Promise((resolve) =>
      requestAnimationFrame(() => {
        const { port1, port2 } = new MessageChannel();
        port1.onmessage = resolve;
        port2.postMessage(null);
      })
    );
  const timed = async (act) => {
    await afterFrame();
    const begun = performance.now();
    await act();
    await afterFrame();
    return performance.now() - begun;
  };

  const names = (count) => Array.from({ length: count }, (_, i) => String(i));
  const wave = (count, at, seed) => Array.from({ length: count }, (_, i) => 0.5 + 0.4 * Math.sin((i + seed) / (at + 3)));

  /** A sweep over layers: a line for each concept, and the band of the first. */
  function curvesOf(layers, concepts, seed) {
    const lines = Array.from({ length: concepts }, (_, at) => {
      const values = wave(layers, at, seed);
      const ends = (by) => values.map((value) => value + by);
      return { name: `concept ${at}`, concept: at, values, low: at ? null : ends(-0.05), high: at ? null : ends(0.05), full: 0.6 };
    });
    return { dims: ["layer"], labels: [names(layers)], axes: ["layer (each alone)"], measure: "IoU with the truth", band: "95 % interval", reference: "all together", lines };
  }

  /** A sweep over layers and heads. */
  function matrixOf(rows, columns, seed) {
    const values = Array.from({ length: rows }, (_, row) => wave(columns, row, seed));
    const line = { name: "mean of the concepts", concept: null, values, low: null, high: null, full: null };
    return { dims: ["layer", "head"], labels: [names(rows), names(columns)], axes: ["layer", "head"], measure: "IoU with the truth", band: "", reference: "", lines: [line] };
  }

  /** The same as plotly's traces and layout. */
  function inPlotly(plot, width) {
    const base = { width, paper_bgcolor: "#fff", plot_bgcolor: "#fff", font: { size: 11 }, margin: { l: 62, r: 12, t: 12, b: 44 }, showlegend: plot.dims.length === 1 };
    if (plot.dims.length === 2) {
      const [down, across] = plot.labels;
      const trace = { type: "heatmap", z: plot.lines[0].values, x: across, y: down, colorscale: "Cividis", xgap: 1, ygap: 1 };
      return [[trace], { ...base, height: 300, xaxis: { title: { text: plot.axes[1] } }, yaxis: { title: { text: plot.axes[0] }, autorange: "reversed" } }];
    }
    const x = plot.labels[0].map(Number);
    const [first] = plot.lines;
    const symbols = ["circle", "square", "triangle-up", "diamond"];
    const dashes = ["solid", "dash", "dot", "dashdot"];
    const bound = (y, fill) => ({ type: "scatter", mode: "lines", x, y, line: { width: 0 }, fill, fillcolor: "rgba(230,159,0,0.2)", hoverinfo: "skip", showlegend: false });
    const lines = plot.lines.map(({ name, concept, values }) => ({
      type: "scatter", mode: "lines+markers", name, x, y: values,
      line: { color: conceptColour(concept), width: 1.5, dash: dashes[concept % 4] },
      marker: { symbol: symbols[concept % 4], size: 6, line: { width: 0.7, color: "#555" } },
    }));
    const full = { type: "line", x0: 0, x1: 1, xref: "paper", y0: first.full, y1: first.full, line: { dash: "dash", width: 1 } };
    const titles = { xaxis: { title: { text: plot.axes[0] } }, yaxis: { title: { text: plot.measure } } };
    return [[bound(first.low, "none"), bound(first.high, "tonexty"), ...lines], { ...base, ...titles, height: 270, shapes: [full] }];
  }

  const made = {
    ours(root) {
      const view = new Plot({ onpick: () => {} });
      root.append(view.element);
      return { draw: (plot) => view.show(plot, 680), change: (plot) => view.show(plot, 680) };
    },
    plotly(root) {
      const element = document.createElement("div");
      root.append(element);
      const config = { displayModeBar: false };
      return {
        draw: (plot) => Plotly.newPlot(element, ...inPlotly(plot, 680), config),
        change: (plot) => Plotly.react(element, ...inPlotly(plot, 680), config),
        end: () => Plotly.purge(element),
      };
    },
  };
  const FIGURES = {
    "curves, 57 layers × 6 concepts": (seed) => curvesOf(57, 6, seed),
    "matrix, 8 × 9 cells": (seed) => matrixOf(8, 9, seed),
    "matrix, 57 × 24 cells": (seed) => matrixOf(57, 24, seed),
  };

  /** Milliseconds by figure, kind of chart and act; both kinds take turns. */
  async function run(count) {
    const found = {};
    const root = document.getElementById("root");
    for (const [figure, plotOf] of Object.entries(FIGURES)) {
      const took = (found[figure] = {});
      for (let round = -2; round < count; round++) {
        const order = round % 2 ? ["plotly", "ours"] : ["ours", "plotly"];
        for (const kind of order) {
          root.replaceChildren();
          const chart = made[kind](root);
          const times = { "drawn anew": await timed(() => chart.draw(plotOf(round))), changed: await timed(() => chart.change(plotOf(round + 7))) };
          const nodes = root.querySelectorAll("*").length;
          chart.end?.();
          if (round < 0) continue;
          for (const [act, time] of Object.entries(times)) ((took[act] ??= {})[kind] ??= []).push(time);
          (took.elements ??= {})[kind] = nodes;
        }
      }
    }
    return found;
  }

  /** Milliseconds until plotly.js, a text that is there, can be called. */
  async function load(text) {
    const begun = performance.now();
    const script = document.createElement("script");
    script.src = URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
    await new Promise((resolve, reject) => Object.assign(script, { onload: resolve, onerror: reject }) && document.head.append(script));
    return performance.now() - begun;
  }

  return { run, load };
})();
