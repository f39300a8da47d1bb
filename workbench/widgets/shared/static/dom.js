// Building the page. Text is only ever set as text, never as markup.

/** An element; "on..." properties are listeners, "data" and "style" are maps, the rest are attributes. */
function h(tag, properties = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  return fill(document.createElement(name || "div"), properties, classes, children);
}

/** An SVG element. */
function s(tag, properties = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  return fill(document.createElementNS("http://www.w3.org/2000/svg", name), properties, classes, children);
}

function fill(element, properties, classes, children) {
  if (classes.length) element.setAttribute("class", classes.join(" "));
  for (const [key, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "data") Object.assign(element.dataset, value);
    else if (key === "style") Object.assign(element.style, value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  if (element.matches("button, select, input, textarea, [tabindex]")) {
    element.setAttribute("data-lm-suppress-shortcuts", "true"); // JupyterLab takes the keys otherwise
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

function button(text, properties, ...more) {
  return h("button.wb-button", { type: "button", ...properties }, text, ...more);
}

/** A labelled <select>; options are [value, text]. */
function choice(control, label, options, onchange) {
  const select = h("select.wb-select", { data: { control }, onchange: () => onchange(select.value) });
  const set = (pairs) => select.replaceChildren(...pairs.map(([value, text]) => h("option", { value }, text)));
  set(options);
  return { element: h("label.wb-field", {}, h("span", {}, label), select), select, set };
}

/** A labelled check box. */
function tick(control, label, onchange) {
  const input = h("input", { type: "checkbox", data: { control }, onchange: () => onchange(input.checked) });
  return { element: h("label.wb-tick", {}, input, h("span", {}, label)), input };
}

/** A labelled number. */
function amount(control, label, { min, max, step = 1 }, onchange) {
  const input = h("input.wb-select.wb-number", { type: "number", min, max, step, data: { control }, onchange: () => onchange(input.value === "" ? null : Number(input.value)) });
  return { element: h("label.wb-field", {}, h("span", {}, label), input), input };
}

/** A typed text. */
function entry(control, label, attributes, onchange) {
  const input = h("input.wb-select.wb-entry", { type: "text", spellcheck: "false", autocomplete: "off", data: { control }, ...attributes, oninput: () => onchange(input.value) });
  return { element: h("label.wb-field", {}, h("span", {}, label), input), input };
}

/** Three digits, with a true minus sign. */
function number(value, digits = 3) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const size = Math.abs(value);
  const text =
    size === 0 || (size >= 1e-3 && size < 1e4)
      ? value.toFixed(Math.max(0, Math.min(digits, digits - 1 - Math.floor(Math.log10(size || 1)))))
      : value.toExponential(1);
  return text.replace("-", "−");
}

/** A value of a map: shares (0 to 1) with three decimals, scores with three digits. */
function mapValue(value, reduce) {
  return reduce === "mean" || !Number.isFinite(value) ? number(value) : value.toFixed(3);
}

/** A message as a sentence of its own. */
function sentence(text) {
  return text ? text[0].toUpperCase() + text.slice(1) : "";
}

/** A captured number as it reads best: 500, 0.25. */
function plain(value) {
  return String(Math.round(value * 1000) / 1000).replace("-", "−");
}

/** "4", or "2–4". */
function span(first, last, write = plain) {
  return first === last ? write(first) : `${write(first)}–${write(last)}`;
}

/** Seconds in words. */
function duration(seconds) {
  if (seconds < 0.95) return `${Math.max(0.1, seconds).toFixed(1)} s`;
  if (seconds < 90) return `${Math.round(seconds)} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

/** Round values between two ends, about so many. */
function ticks(low, high, about = 4) {
  const rough = (high - low) / about;
  if (!(rough > 0)) return [low];
  const unit = 10 ** Math.floor(Math.log10(rough));
  const fits = (size) => Math.floor(high / size) - Math.ceil(low / size) <= about;
  const step = [0.5, 1, 2, 5, 10].map((factor) => factor * unit).find(fits);
  const found = [];
  for (let i = Math.ceil(low / step); i * step <= high + step * 1e-6; i++) found.push(i * step);
  return found;
}

/** Call at most once in so many milliseconds, and no sooner than the pause, always with the last arguments. */
function throttle(milliseconds, call, pause = 0) {
  let timer = null;
  let last = 0;
  let waiting = null;
  const run = () => {
    timer = null;
    last = performance.now();
    call(...waiting);
  };
  const throttled = (...values) => {
    waiting = values;
    timer ??= setTimeout(run, Math.max(pause, last + milliseconds - performance.now()));
  };
  throttled.cancel = () => clearTimeout(timer);
  return throttled;
}

/** Hand a file to the browser's downloads. */
function download(name, blob) {
  const link = h("a", { href: URL.createObjectURL(blob), download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
