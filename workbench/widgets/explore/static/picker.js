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

function cardOf(run) {
  const picture = element("img", {class: "wb-picker-picture", alt: "", width: THUMBNAIL, height: THUMBNAIL});
  const facts = [run.kind, run.model, run.created.slice(0, 16).replace("T", " "), megabytes(run.size)].filter(Boolean);
  const role = {baseline: "baseline", control: "control"}[run.role];
  const edit = [role, run.edit && `edited: ${run.edit}`].filter(Boolean).join(", ");
  return element(
    "button",
    {type: "button", class: "wb-picker-run", "data-key": run.key, "data-lm-suppress-shortcuts": "true", "aria-pressed": "false"},
    picture,
    element(
      "span",
      {class: "wb-picker-text"},
      element("span", {class: "wb-picker-words"}, run.concepts.join(", ") || "no concepts"),
      ...(edit ? [element("span", {class: "wb-picker-edit"}, edit)] : []),
      ...(run.prompt ? [element("span", {class: "wb-picker-prompt"}, `“${run.prompt}”`)] : []),
      element("span", {class: "wb-picker-facts"}, ...facts.flatMap((fact, i) => [i ? " · " : "", element("span", {}, fact)])),
      element("code", {class: "wb-picker-key"}, run.key),
    ),
  );
}

function textOf(run) {
  return [run.key, run.kind, run.model, run.prompt, run.created, run.edit, run.role, ...run.concepts].join(" ").toLowerCase();
}

/** A card, and below it the folded cards of the runs that experiments made with it. */
function rowOf(run) {
  const row = {item: element("li", {}, cardOf(run)), text: textOf(run), derived: [], unfolded: false};
  if (!run.summary) return row;
  row.inner = element("ul", {class: "wb-picker-derived", "aria-label": run.summary});
  row.fold = element(
    "button", {type: "button", class: "wb-picker-fold", "data-lm-suppress-shortcuts": "true", "aria-expanded": "false"}, run.summary,
  );
  row.derived = run.derived.map((one) => {
    const item = element("li", {}, cardOf(one));
    row.inner.append(item);
    return {item, text: textOf(one)};
  });
  row.inner.hidden = true;
  row.item.append(row.fold, row.inner);
  return row;
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

  const send = (content) => sendOr((text) => {
    error.textContent = text;
    error.hidden = false;
  }, model, content);
  const addresses = [];
  let rows = [];
  let left = 0;

  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries.filter((one) => one.isIntersecting)) {
      seen.unobserve(entry.target);
      send({type: "thumbnail", key: entry.target.dataset.key});
    }
  });

  function filter() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const fits = (one) => words.every((word) => one.text.includes(word));
    let shown = 0;
    for (const row of rows) {
      const own = fits(row);
      for (const one of row.derived) one.item.hidden = !own && !fits(one);
      const within = !own && row.derived.some((one) => !one.item.hidden);
      row.item.hidden = !own && !within;
      if (row.fold) unfold(row, row.unfolded || within);
      shown += row.item.hidden ? 0 : 1;
    }
    const all = rows.length === 1 ? "1 stored run" : `${rows.length} stored runs`;
    const more = left ? `; ${left} older ones are not listed` : "";
    if (rows.length && !shown) {
      count.textContent = `Nothing found for “${search.value}” among ${all}${more}.`;
      return;
    }
    count.textContent = (shown === rows.length ? all : `${shown} of ${all}`) + more;
  }

  function unfold(row, open) {
    row.inner.hidden = !open;
    row.fold.setAttribute("aria-expanded", String(open));
  }

  /** Fold or unfold what the user says; a search unfolds for as long as it lasts. */
  function toggle(fold, open) {
    const row = rows.find((one) => one.fold === fold);
    if (!row) return;
    row.unfolded = open ?? row.inner.hidden;
    unfold(row, row.unfolded);
  }

  function fill(found, unlisted) {
    list.replaceChildren();
    seen.disconnect();
    left = unlisted;
    rows = found.map(rowOf);
    for (const {item} of rows) {
      list.append(item);
      for (const card of item.querySelectorAll(".wb-picker-run")) seen.observe(card);
    }
    list.hidden = !rows.length;
    filter();
    if (!rows.length) count.textContent = "No stored runs. workbench.capture(image, concepts) makes one.";
  }

  function visible() {
    return [...list.querySelectorAll("button")].filter((button) => !button.closest("[hidden]"));
  }

  root.addEventListener("keydown", (event) => {
    const fold = event.target.closest(".wb-picker-fold");
    if (fold && (event.key === "ArrowRight" || event.key === "ArrowLeft")) {
      toggle(fold, event.key === "ArrowRight");
      event.preventDefault();
      return;
    }
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
    if (button?.matches(".wb-picker-fold")) toggle(button);
    else if (button) send({type: "open", key: button.dataset.key});
  });

  function answer(content, buffers) {
    clearTimeout(silent);
    unanswered(root, false);
    if (content.type === "runs") {
      fill(content.runs, content.left);
      root.dataset.ready = "true";
    }
    const row = content.key && list.querySelector(`button[data-key="${CSS.escape(content.key)}"]`);
    if (content.type === "thumbnail" && row && buffers.length) {
      const address = URL.createObjectURL(new Blob([buffers[0]], {type: "image/png"}));
      addresses.push(address);
      row.querySelector("img").src = address;
    }
    if (content.type === "open") {
      error.textContent = content.error ?? "";
      error.hidden = !content.error;
      for (const button of list.querySelectorAll(".wb-picker-run")) button.setAttribute("aria-pressed", String(button === row));
    }
  }

  model.on("msg:custom", answer);
  send({type: "ready"});
  const silent = setTimeout(() => unanswered(root, true), 5000);
  return () => {
    clearTimeout(silent);
    seen.disconnect();
    model.off("msg:custom", answer);
    addresses.forEach(URL.revokeObjectURL);
  };
}

export default {render};
