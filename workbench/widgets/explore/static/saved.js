// A saved view: unpacks what is in the page and answers the view in the kernel's place.
async function open(text) {
  const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const bytes = await new Response(stream).arrayBuffer();
  const length = new DataView(bytes).getUint32(0, true);
  const { meta, state, module, answers } = JSON.parse(new TextDecoder().decode(new Uint8Array(bytes, 4, length)));
  const view = ([start, end]) => new DataView(bytes.slice(4 + length + start, 4 + length + end));
  return { meta, state, module, reply: (key) => answers[key]?.map(({ content, buffers }) => [content, buffers.map(view)]) };
}

// What distinguishes one question from another, as the answers are filed.
const FILED = {
  ready: () => [],
  cube: ({ space }) => [space],
  picture: ({ state }) => [state.sample, state.frame],
  overview: ({ state }) => [state.space, state.sample, state.frame, state.statistic],
};

class Model {
  constructor({ meta, state, reply }) {
    this.first = state;
    this.values = { meta, state, error: "" };
    this.reply = reply;
    this.callbacks = { "msg:custom": [], "change:state": [] };
    this.follow();
    addEventListener("hashchange", () => this.follow());
  }

  /** Show what the address asks for; what it asks in vain is said above the view. */
  follow() {
    const { state, error } = readAddress(location.hash, this.values.meta, this.first);
    const said = document.getElementById("address");
    said.hidden = !error;
    said.textContent = error ? `The address of this page asks for something that cannot be shown: ${error}.` : "";
    if (error || JSON.stringify(state) === JSON.stringify(this.values.state)) return;
    this.values.state = state;
    for (const callback of this.callbacks["change:state"]) callback();
  }

  get(name) {
    return this.values[name];
  }

  set(name, value) {
    this.values[name] = value;
  }

  /** The address says what is shown, so that a link to it shows the same. */
  save_changes() {
    const address = writeAddress(this.values.state, this.values.meta, this.first);
    history.replaceState(null, "", address || location.pathname + location.search);
    document.getElementById("address").hidden = true;
  }

  on(name, callback) {
    this.callbacks[name]?.push(callback);
  }

  off(name, callback) {
    if (name in this.callbacks) this.callbacks[name] = this.callbacks[name].filter((other) => other !== callback);
  }

  send(question) {
    const { type, id } = question;
    const found = FILED[type] && this.reply(JSON.stringify([type, ...FILED[type](question)]));
    const error = "This saved page has no kernel and does not hold that; open the dataset in a notebook.";
    setTimeout(() => {
      for (const [content, buffers] of found ?? [[{ type, error }, []]]) {
        for (const callback of this.callbacks["msg:custom"]) callback({ ...content, id }, buffers);
      }
    });
  }
}

(async () => {
  const page = document.querySelector("main");
  try {
    const saved = await open(document.getElementById("saved").textContent);
    const address = URL.createObjectURL(new Blob([saved.module], { type: "text/javascript" }));
    const view = (await import(address)).default();
    const model = new Model(saved);
    page.replaceChildren();
    await view.initialize({ model });
    await view.render({ model, el: page });
  } catch (error) {
    page.textContent = `This page could not be shown (${error.message}). It needs a browser from 2023 or later.`;
  }
})();
