// The state of a saved page as the part of its address behind "#": what differs from what the page shows at first.
// An address comes from anywhere, so every value is checked, and one that does not fit is refused with a sentence.

const REDUCTIONS = ["softmax_mean", "mean_softmax", "mean"];
const COLOURS = ["auto", "viridis", "cividis", "magma", "diverging"];
const SECTIONS = ["overview", "heads", "patch", "options"];
const LONGEST_ADDRESS = 2000;

/** By field of the state, whether a value fits the page. */
function fitting(meta, space) {
  const { names } = meta.spaces[space];
  const [rows, columns] = meta.grid;
  const among = (held) => (value) => held.includes(value);
  const position = (count) => (value) => Number.isInteger(value) && value >= 0 && value < count;
  const pair = (test) => (value) => Array.isArray(value) && value.length === 2 && value.every(test);
  const maybe = (test) => (value) => value === null || test(value);
  const rising = (value) => value.every((one, at) => at === 0 || value[at - 1] < one);
  const flag = (value) => typeof value === "boolean";
  return {
    space: among(Object.keys(meta.spaces)),
    layers: (value) => pair(among(meta.layers))(value) && value[0] <= value[1],
    timesteps: (value) => pair(among(meta.timesteps))(value) && value[0] >= value[1],
    heads: (value) => value === null,
    sample: maybe(among(meta.samples)),
    frame: meta.frames.length ? among(meta.frames) : (value) => value === null,
    reduce: among(REDUCTIONS),
    concepts: maybe((value) => Array.isArray(value) && value.length > 0 && value.every(position(names.length)) && rising(value)),
    difference: maybe(pair(position(names.length))),
    focus: maybe(position(names.length)),
    pin: maybe((value) => pair(Number.isInteger)(value) && position(rows)(value[0]) && position(columns)(value[1])),
    statistic: among(meta.statistics),
    cmap: among(COLOURS),
    opacity: (value) => Number.isFinite(value) && value >= 0 && value <= 1,
    smooth: flag,
    picture: flag,
    limits: maybe(pair(Number.isFinite)),
    head_layer: maybe(among(meta.layers)),
    open: (value) => Array.isArray(value) && value.every(among(SECTIONS)) && new Set(value).size === value.length,
  };
}

/** What an address asks for: {state}, or {error}. */
function readAddress(address, meta, first) {
  const asked = new Map();
  if (address.length > LONGEST_ADDRESS) return { error: "it is too long" };
  for (const part of address.replace(/^#/, "").split("&").filter(Boolean)) {
    const at = part.indexOf("=");
    const name = part.slice(0, at < 0 ? undefined : at);
    try {
      if (at < 0 || asked.has(name) || !Object.hasOwn(first, name)) throw new Error();
      asked.set(name, JSON.parse(decodeURIComponent(part.slice(at + 1))));
    } catch {
      return { error: `“${part.slice(0, 60)}” says nothing` };
    }
  }
  const space = asked.get("space") ?? first.space;
  if (typeof space !== "string" || !Object.hasOwn(meta.spaces, space)) return { error: "this page holds no such space" };
  const fits = fitting(meta, space);
  for (const [name, value] of asked) {
    if (!fits[name]?.(value)) return { error: `this page holds no ${name} ${JSON.stringify(value).slice(0, 60)}` };
  }
  const ground = space === first.space ? first : { ...meta.spaces[space].state, heads: null };
  return { state: { ...ground, ...Object.fromEntries(asked) } };
}

/** The address of a state. */
function writeAddress(state, meta, first) {
  const ground = state.space === first.space ? first : { ...meta.spaces[state.space].state, heads: null, space: null };
  const differs = ([name, value]) => JSON.stringify(value) !== JSON.stringify(ground[name]);
  const written = ([name, value]) => `${name}=${encodeURIComponent(JSON.stringify(value)).replaceAll("%2C", ",").replaceAll("%5B", "[").replaceAll("%5D", "]")}`;
  const parts = Object.entries(state).filter(differs).map(written);
  return parts.length ? `#${parts.join("&")}` : "";
}
