// The picture: dropped, pasted, chosen, or one of the examples.

const PART = 2 ** 20; // bytes of one message: longer ones may be refused on the way
const LARGEST = 100e6;

class PictureField {
  constructor(examples, { send, fail, onexample }) {
    Object.assign(this, { send, fail, number: 0 });
    this.image = h("img.wb-start-preview", { alt: "", hidden: true });
    this.invite = h("span.wb-start-invite", {}, h("b", {}, "Drop a picture here"), h("span", {}, "or click here and paste one (Ctrl+V)"));
    this.name = h("span.wb-hint", {});
    this.file = h("input", { type: "file", accept: "image/*", hidden: true, "aria-label": "Picture file", data: { control: "file" }, onchange: () => this.take(this.file.files[0]) });
    this.choose = button("Choose a file…", { data: { control: "choose" }, onclick: () => this.file.click() });
    this.zone = h(
      "div.wb-start-zone", { tabindex: -1, role: "group", "aria-label": "Picture: drop it here, or paste it anywhere in this panel", data: { control: "zone" } },
      this.image, this.invite
    );
    this.zone.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      event.stopPropagation();
      this.file.click();
    });
    this.shelf = h("div.wb-start-shelf", { role: "group", "aria-label": "Example scenes" }, ...examples.map(({ name, caption }) =>
      h("button.wb-start-example", { type: "button", title: caption, "aria-label": `Example: ${caption}`, "aria-pressed": "false", data: { example: name }, onclick: () => onexample(name) }, h("img", { alt: "" }))
    ));
    const shelf = examples.length ? [h("span.wb-hint", {}, "or take an example (with known masks):"), this.shelf] : [];
    this.element = h("div.wb-start-picture", {}, this.zone, h("div.wb-row", {}, this.choose, this.name, this.file), ...shelf);
  }

  /** Small pictures of the examples, in their order. */
  fill(buffers) {
    [...this.shelf.children].forEach((one, i) => {
      if (buffers[i]) one.firstChild.src = addressOf(buffers[i]);
    });
  }

  show({ name, size }, buffer) {
    if (this.address) URL.revokeObjectURL(this.address);
    this.address = this.image.src = addressOf(buffer);
    this.image.alt = `The picture ${name}`;
    this.image.hidden = false;
    this.invite.hidden = true;
    this.held = `${name}, ${size[0]} × ${size[1]} px`;
    this.name.textContent = this.held;
    for (const one of this.shelf.children) one.setAttribute("aria-pressed", String(one.dataset.example === name));
  }

  /** A file was none: the picture before it stays. */
  drop() {
    this.name.textContent = this.held ?? "";
  }

  /** Send a file to the kernel, in parts. */
  async take(file) {
    this.file.value = "";
    if (!file) return;
    if (!file.type.startsWith("image/")) return this.fail(`${file.name || "What was given"} is no picture: give a file such as PNG or JPEG.`);
    if (file.size > LARGEST) return this.fail(`${file.name} has more than ${LARGEST / 1e6} MB: give a smaller picture.`);
    this.fail("");
    this.name.textContent = "Reading…";
    const content = await file.arrayBuffer();
    const parts = Math.max(1, Math.ceil(content.byteLength / PART));
    const number = ++this.number;
    for (let part = 0; part < parts; part++) {
      this.send({ type: "take", number, part, parts, name: file.name || "pasted picture" }, [content.slice(part * PART, (part + 1) * PART)]);
    }
    return undefined;
  }

  /** Listen for pictures that are dropped or pasted anywhere on a panel. */
  listen(root, wanted) {
    const held = (transfer) => [...(transfer?.items ?? [])].some((item) => item.kind === "file");
    root.addEventListener("dragover", (event) => {
      if (!held(event.dataTransfer) || !wanted()) return;
      event.preventDefault();
      event.stopPropagation();
      this.zone.classList.add("wb-over");
    });
    root.addEventListener("dragleave", (event) => root.contains(event.relatedTarget) || this.zone.classList.remove("wb-over"));
    root.addEventListener("drop", (event) => {
      this.zone.classList.remove("wb-over");
      if (!held(event.dataTransfer) || !wanted()) return;
      event.preventDefault();
      event.stopPropagation();
      this.take(event.dataTransfer.files[0]);
    });
    root.addEventListener("paste", (event) => {
      const [file] = event.clipboardData?.files ?? [];
      if (!file || !wanted()) return;
      event.preventDefault();
      event.stopPropagation();
      this.take(file);
    });
  }

  dispose() {
    for (const one of [this.image, ...this.shelf.querySelectorAll("img")]) if (one.src) URL.revokeObjectURL(one.src);
  }
}

function addressOf(buffer) {
  return URL.createObjectURL(new Blob([buffer], { type: "image/jpeg" }));
}
