// The numbers on screen as Python; workbench.widgets.explore.state.State.call writes the same.

/** Statistics of the overview that compare with the truth. */
const TRUE = ["iou", "ap"];

function codeOf({ state, meta, names }) {
  const { space, layers, timesteps, heads, sample, frame, reduce, concepts, difference, focus, pin, open, statistic } = state;
  const { variable, source } = meta;
  const all = { layers: [meta.layers[0], meta.layers.at(-1)], timesteps: [meta.timesteps[0], meta.timesteps.at(-1)] };
  const float = (value) => (Number.isInteger(value) ? `${value}.0` : String(value));
  const list = (values) => `[${values.join(", ")}]`;
  const literal = (value) => (Array.isArray(value) ? list(value.map(literal)) : JSON.stringify(value));
  const range = ([first, last]) => (first === last ? `layers=${first}` : `layers=slice(${first}, ${last})`);
  /** Arguments of heatmap; all timesteps where none are given. */
  const options = (layers, timesteps, { keep = null, chosenHeads = heads && list(heads) } = {}) => {
    const found = [range(layers)];
    if (space !== "output") found.push(`space="${space}"`);
    if (timesteps && timesteps[0] === timesteps[1]) found.push(`timesteps=${float(timesteps[0])}`);
    else if (timesteps && String(timesteps) !== String(all.timesteps)) found.push(`timesteps=slice(${timesteps.map(float).join(", ")})`);
    if (chosenHeads !== null) found.push(`heads=${chosenHeads}`);
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
  const framed = frame === null ? variable : `${variable}.sel(frame=[${frame}])`;
  const known = meta.truth && dim === "concept";
  if (known) lines.push(`mean_iou = ${framed}.wb.score(${written}).mean_iou`);
  if (difference) {
    const [one, other] = difference.map((index) => `${maps}${chosen(index, ", drop=True")}`);
    lines.push(`difference = ${one} - ${other}`);
  }
  if (pin && open.includes("patch")) {
    const there = `${at}.isel(y=${pin[0]}, x=${pin[1]})`;
    lines.push(`patch = ${variable}.wb.heatmap(${written})${there}`);
    // With chosen heads only what is selected is read.
    const over = { layer: [heads ? layers : all.layers, timesteps], timestep: [layers, heads ? timesteps : null] };
    for (const [keep, given] of Object.entries(over)) lines.push(`over_${keep}s = ${variable}.wb.heatmap(${options(...given, { keep })})${there}`);
  }
  if (open.includes("overview") && names.length > 1 && meta.statistics.includes(statistic) && (known || !TRUE.includes(statistic))) {
    const asked = [`"${statistic}"`];
    if (space !== "output") asked.push(`space="${space}"`);
    if (sample !== null) asked.push(`samples=${sample}`);
    lines.push(`overview = ${framed}.wb.overview(${asked.join(", ")})`);
  }
  if (open.includes("heads") && meta.spaces[space].heads) {
    const layer = state.head_layer ?? layers[1];
    const one = `${variable}.wb.heatmap(${options([layer, layer], timesteps, { chosenHeads: "head" })})${at}${chosen(focus ?? 0, ", drop=True")}`;
    lines.push(`heads = {head: ${one} for head in ${variable}["head"].values.tolist()}`);
  }
  return [...(source ? [source, ""] : []), ...lines].join("\n");
}
