// The concepts: chips, an entry, words that are offered, and what is to be said of each.

const MOST_OFFERED = 7;

class WordField {
  constructor({ onchange, ontyping }) {
    Object.assign(this, { onchange, ontyping, words: [], known: [], offered: [] });
    this.list = h("datalist", { id: `wb-words-${Math.random().toString(36).slice(2)}` });
    this.entry = h("input.wb-start-entry", {
      type: "text", spellcheck: "false", autocomplete: "off", list: this.list.id, data: { control: "word" }, "aria-label": "Add a concept",
      oninput: () => this.typed(), onkeydown: (event) => this.key(event), onblur: () => this.add(this.entry.value),
    });
    this.chips = h("span.wb-start-chips", { role: "list", "aria-label": "Concepts" });
    this.box = h("div.wb-start-words", { onclick: (event) => event.target === this.box && this.entry.focus() }, this.chips, this.entry, this.list);
    this.offers = h("div.wb-row.wb-start-offers", {});
    this.remarks = h("ul.wb-start-remarks", { "aria-live": "polite", "aria-label": "About these words" });
    this.spoken = h("span.wb-spoken", { "aria-live": "polite" });
    this.element = h("div.wb-start-field", {}, h("span.wb-start-label", {}, "Concepts"), this.box, this.remarks, this.offers, this.spoken);
  }

  show(words) {
    if (words.join("\n") === this.words.join("\n") && this.drawn) return;
    Object.assign(this, { words: [...words], drawn: true });
    this.entry.placeholder = words.length ? "another word" : "dog, grass, sky";
    this.chips.replaceChildren(...words.map((word, i) =>
      h("span.wb-start-chip", { role: "listitem", data: { word } },
        h("span.wb-swatch", { style: { background: conceptColour(i) } }), h("span", {}, word),
        h("button.wb-start-remove", { type: "button", "aria-label": `Remove ${word}`, title: `Remove ${word}`, onclick: () => this.remove(i) }, "×"))
    ));
    this.drawOffers();
    this.drawRemarks();
  }

  /** What the model knows: its words, if they are few, and which background words to offer. */
  know(words, backgrounds) {
    this.known = words;
    this.offered = words.length ? backgrounds.filter((word) => words.includes(word)) : backgrounds;
    this.list.replaceChildren(...words.map((value) => h("option", { value })));
    this.drawOffers();
  }

  drawOffers() {
    const left = this.offered.filter((word) => !this.words.includes(word)).slice(0, MOST_OFFERED);
    this.offers.hidden = !left.length;
    const why = this.words.length === 1 ? "One word alone is everywhere; add what surrounds it:" : "Background:";
    this.offers.replaceChildren(h("span.wb-hint", {}, why), ...left.map((word) =>
      button(`+ ${word}`, { data: { offer: word }, "aria-label": `Add ${word}`, onclick: () => this.add(word) })
    ));
  }

  /** Sentences of the kernel: [{word, text, refused}]. */
  say(remarks) {
    this.said = remarks;
    this.drawRemarks();
  }

  drawRemarks() {
    const typed = this.entry.value.trim();
    const shown = (this.said ?? []).filter(({ word }) => !word || this.words.includes(word) || word === typed);
    this.remarks.replaceChildren(...shown.map(({ text, refused }) => h("li", { class: refused ? "wb-start-refused" : "wb-start-warned" }, text)));
    for (const chip of this.chips.children) {
      const of = shown.filter(({ word }) => word === chip.dataset.word);
      chip.classList.toggle("wb-start-refused", of.some(({ refused }) => refused));
      chip.classList.toggle("wb-start-warned", of.some(({ refused }) => !refused));
      chip.title = of.map(({ text }) => text).join(" ");
    }
  }

  typed() {
    if (this.entry.value.includes(",")) return this.add(this.entry.value);
    this.drawRemarks();
    return this.ontyping(this.entry.value.trim());
  }

  key(event) {
    if (event.key === "Enter" && this.entry.value.trim() && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      event.stopPropagation();
      this.add(this.entry.value);
    } else if (event.key === "Backspace" && !this.entry.value && this.words.length) {
      event.preventDefault();
      this.remove(this.words.length - 1);
    }
  }

  /** Add words; several with commas between them. */
  add(text) {
    const found = text.split(",").map((word) => word.trim()).filter((word) => word && !this.words.includes(word));
    this.entry.value = "";
    if (!found.length) return;
    this.spoken.textContent = `Added ${found.join(", ")}.`;
    this.set([...this.words, ...new Set(found)]);
  }

  remove(at) {
    this.spoken.textContent = `Removed ${this.words[at]}.`;
    this.set(this.words.filter((_, i) => i !== at));
    this.entry.focus();
  }

  set(words) {
    this.show(words);
    this.onchange(words);
  }
}
