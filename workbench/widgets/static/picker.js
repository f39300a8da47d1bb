// A list of stored runs with their pictures and a search field. The rows and pictures come from the kernel on request.
const THUMBNAIL = 72;

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function megabytes(bytes) {
  return bytes < 1e6 ? `${Math.max(1, Math.round(bytes / 1e3))} kB` : `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;
}

function rowOf(run) {
  const picture = element("img", {class: "wb-picker-picture", alt: "", width: THUMBNAIL, height: THUMBNAIL});
  const facts = [run.kind, run.model, run.created.slice(0, 16).replace("T", " "), megabytes(run.size)].filter(Boolean);
  const button = element(
    "button",
    {type: "button", class: "wb-picker-run", "data-key": run.key, "data-lm-suppress-shortcuts": "true", "aria-pressed": "false"},
    picture,
    element(
      "span",
      {class: "wb-picker-text"},
      element("span", {class: "wb-picker-words"}, run.concepts.join(", ") || "no concepts"),
      ...(run.prompt ? [element("span", {class: "wb-picker-prompt"}, `“${run.prompt}”`)] : []),
      element("span", {class: "wb-picker-facts"}, ...facts.flatMap((fact, i) => [i ? " · " : "", element("span", {}, fact)])),
      element("code", {class: "wb-picker-key"}, run.key),
    ),
  );
  return element("li", {}, button);
}

function render({model, el}) {
  const search = element("input", {
    type: "search", class: "wb-picker-search", placeholder: "Search: words, model, date, key",
    "aria-label": "Search the stored runs", "data-lm-suppress-shortcuts": "true",
  });
  const count = element("span", {class: "wb-picker-count", role: "status"}, "Reading the stored runs …");
  const list = element("ul", {class: "wb-picker-list", "aria-label": "Stored runs"});
  const error = element("p", {class: "wb-error", role: "alert"});
  const root = element("div", {class: "wb-picker"}, element("div", {class: "wb-picker-head"}, search, count), error, list);
  el.append(root);
  error.hidden = true;
  list.hidden = true;

  const addresses = [];
  let rows = [];
  let left = 0;

  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries.filter((one) => one.isIntersecting)) {
      seen.unobserve(entry.target);
      model.send({type: "thumbnail", key: entry.target.dataset.key});
    }
  });

  function filter() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      row.item.hidden = !words.every((word) => row.text.includes(word));
      shown += row.item.hidden ? 0 : 1;
    }
    const all = rows.length === 1 ? "1 stored run" : `${rows.length} stored runs`;
    const more = left ? `; ${left} older ones are not listed` : "";
    count.textContent = (shown === rows.length ? all : `${shown} of ${all}`) + more;
  }

  function fill(found, unlisted) {
    list.replaceChildren();
    seen.disconnect();
    left = unlisted;
    rows = found.map((run) => {
      const item = rowOf(run);
      list.append(item);
      seen.observe(item.firstChild);
      const text = [run.key, run.kind, run.model, run.prompt, run.created, ...run.concepts].join(" ").toLowerCase();
      return {item, text};
    });
    list.hidden = !rows.length;
    filter();
    if (!rows.length) count.textContent = "No stored runs. workbench.capture(image, concepts) makes one.";
  }

  function visible() {
    return rows.filter((row) => !row.item.hidden).map((row) => row.item.firstChild);
  }

  root.addEventListener("keydown", (event) => {
    const step = {ArrowDown: 1, ArrowUp: -1}[event.key];
    if (!step) return;
    const buttons = visible();
    const next = buttons.indexOf(document.activeElement) + step;
    (next < 0 ? search : buttons[Math.min(next, buttons.length - 1)])?.focus();
    event.preventDefault();
  });
  search.addEventListener("input", filter);
  list.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) model.send({type: "open", key: button.dataset.key});
  });

  function answer(content, buffers) {
    if (content.type === "runs") fill(content.runs, content.left);
    const row = content.key && list.querySelector(`button[data-key="${CSS.escape(content.key)}"]`);
    if (content.type === "thumbnail" && row && buffers.length) {
      const address = URL.createObjectURL(new Blob([buffers[0]], {type: "image/png"}));
      addresses.push(address);
      row.querySelector("img").src = address;
    }
    if (content.type === "open") {
      error.textContent = content.error ?? "";
      error.hidden = !content.error;
      for (const button of list.querySelectorAll("button")) button.setAttribute("aria-pressed", String(button === row));
    }
  }

  model.on("msg:custom", answer);
  model.send({type: "ready"});
  const silent = setTimeout(() => {
    if (!rows.length && count.textContent.startsWith("Reading")) {
      count.textContent = "No answer from the kernel: run this cell again.";
    }
  }, 5000);
  return () => {
    clearTimeout(silent);
    seen.disconnect();
    model.off("msg:custom", answer);
    addresses.forEach(URL.revokeObjectURL);
  };
}

export default {render};
