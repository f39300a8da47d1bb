// The numbers on screen as Python; workbench.widgets.explore.state.State.call writes the same.

const SWEPT = { iou: "mean_iou", ap: "mean_ap", entropy: "entropy" };

function codeOf({ state, meta, names }) {
  const { space, layers, timesteps, heads, sample, frame, reduce, concepts, difference, pin, open, statistic } = state;
  const { variable, source } = meta;
  const all = { layers: [meta.layers[0], meta.layers.at(-1)], timesteps: [meta.timesteps[0], meta.timesteps.at(-1)] };
  const float = (value) => (Number.isInteger(value) ? `${value}.0` : String(value));
  const list = (values) => `[${values.join(", ")}]`;
  const literal = (value) => (Array.isArray(value) ? list(value.map(literal)) : JSON.stringify(value));
  const range = ([first, last]) => (first === last ? `layers=${first}` : `layers=slice(${first}, ${last})`);
  /** Arguments of heatmap; all timesteps where none are given. */
  const options = (layers, timesteps, keep = null) => {
    const found = [range(layers)];
    if (space !== "output") found.push(`space="${space}"`);
    if (timesteps && timesteps[0] === timesteps[1]) found.push(`timesteps=${float(timesteps[0])}`);
    else if (timesteps && String(timesteps) !== String(all.timesteps)) found.push(`timesteps=slice(${timesteps.map(float).join(", ")})`);
    if (heads !== null) found.push(`heads=${list(heads)}`);
    if (sample !== null) found.push(`samples=${sample}`);
    if (reduce !== "softmax_mean") found.push(`reduce="${reduce}"`);
    if (keep) found.push(`keep=["${keep}"]`);
    return found.join(", ");
  };
  const dim = space === "prompt" ? "token" : "concept";
  const at = frame === null ? "" : `.sel(frame=${frame})`;
  const written = options(layers, timesteps);
  const maps = `${variable}.wb.heatmap(${written})${at}`;
  const doubled = new Set(names).size < names.length;
  // Tokens may have one name twice, and are then chosen by position.
  const chosen = (positions, more = "") => {
    if (doubled) return `.isel(${dim}=${literal(positions)}${more})`;
    return `.sel(${dim}=${literal(Array.isArray(positions) ? positions.map((index) => names[index]) : names[positions])}${more})`;
  };
  const lines = [`maps = ${maps}${concepts ? chosen(concepts) : ""}`, `areas = ${variable}.wb.segment(${written})${at}`];
  if (difference) {
    const [one, other] = difference.map((index) => `${maps}${chosen(index, ", drop=True")}`);
    lines.push(`difference = ${one} - ${other}`);
  }
  if (pin && open.includes("patch")) {
    // With chosen heads only what is selected is read.
    const over = heads ? options(layers, timesteps, "timestep") : options(layers, null, "timestep");
    for (const [kept, given] of [["layer", options(heads ? layers : all.layers, timesteps, "layer")], ["timestep", over]]) {
      lines.push(`over_${kept}s = ${variable}.wb.heatmap(${given})${at}.isel(y=${pin[0]}, x=${pin[1]})`);
    }
  }
  const apart = sample === null && meta.samples.length > 1;
  const known = names.length > 1 && meta.statistics.includes(statistic);
  if (open.includes("overview") && SWEPT[statistic] && known && !apart && !at && space !== "prompt") {
    const asked = [`metric="${statistic}"`, range(all.layers)];
    if (space !== "output") asked.push(`space="${space}"`);
    if (sample !== null) asked.push(`samples=${sample}`);
    lines.push(`overview = ${variable}.wb.sweep(("timestep", "layer"), ${asked.join(", ")}).${SWEPT[statistic]}`);
  }
  return [...(source ? [source, ""] : []), ...lines].join("\n");
}
