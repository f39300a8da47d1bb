// A store's talk with the kernel: one question of a kind at a time, and what is done with each answer.

class StoreKernel {
  send(content) {
    try {
      this.model.send(content);
    } catch (error) {
      this.disconnect();
    }
  }

  /** Ask the kernel, one question of a kind at a time; of those that wait only the last is asked. */
  ask(type, content = {}) {
    this.waiting.set(type, content);
    if (this.asked.has(type)) return;
    if (this.later[type]) this.later[type]();
    else this.dispatch(type);
  }

  dispatch(type) {
    if (this.asked.has(type) || !this.waiting.has(type)) return;
    const content = { type, id: this.revision, state: this.state, ...this.waiting.get(type) };
    this.waiting.delete(type);
    const patience = setTimeout(() => this.tell("slow"), 2500);
    this.asked.set(type, { patience, since: performance.now() });
    this.send(content);
  }

  /** Whether the kernel has kept a question waiting for long. */
  get silent() {
    return [...this.asked.values()].some((asked) => performance.now() - asked.since > 2400);
  }

  disconnect() {
    this.live = false;
    this.tell("slow");
  }

  take(content, buffers) {
    const { type } = content;
    if (type === "part") {
      this.addPart(content, buffers);
      return;
    }
    const asked = this.asked.get(type);
    if (asked) clearTimeout(asked.patience);
    this.asked.delete(type);
    const quiet = !this.live || (asked && performance.now() - asked.since > 2400);
    this.live = true;
    this[`take_${type}`]?.(content, buffers);
    if (this.waiting.has(type)) this.ask(type, this.waiting.get(type));
    if (quiet) this.tell("slow");
  }

  async take_ready(content, buffers) {
    if (content.error) this.notes = [content.error];
    content.kinds?.forEach((kind, index) => {
      if (kind === "truth" || kind === "area") this[kind] = floats(buffers[index]);
    });
    const at = (content.kinds ?? []).indexOf("picture");
    if (at >= 0) await this.setPicture(content.media, buffers[at]);
    this.tell("panels");
    this.schedule();
  }

  async take_picture(content, buffers) {
    if (content.error) return;
    await this.setPicture(content.media, buffers[0]);
    this.schedule();
  }

  async setPicture(media, file) {
    try {
      this.bitmap = await createImageBitmap(new Blob([file], { type: media }));
    } catch (error) {
      this.bitmap = null;
    }
    this.tell("picture");
  }

  take_maps(content, buffers) {
    const late = this.waiting.has("maps"); // then these are maps of an earlier state
    if (!this.inBrowser && (content.error || content.space === this.state.space)) {
      this.notes = content.notes;
      if (!content.error) this.show(floats(buffers[0]), content.shape[0], "kernel");
      else if (!late) this.fail(content.error);
      this.fresh = !late;
    }
    this.schedule();
    if (this.space.cube && this.cubeState === "none" && !this.meta.offline) this.ask("cube", { space: this.state.space });
  }

  addPart({ space, timestep }, buffers) {
    if (this.cube?.space !== space) {
      const { samples, layers, timesteps, frames, spaces } = this.meta;
      this.cube = new Cube({
        space,
        samples: samples.length,
        timesteps: timesteps.length,
        layers: layers.length,
        concepts: spaces[space].names.length,
        frames: Math.max(frames.length, 1),
        patches: this.patches,
      });
    }
    const [levels, low, step] = buffers;
    const data = bytes(levels);
    const steps = floats(step);
    const wide = data.byteLength === 4 * steps.length * this.cube.frames * this.patches;
    this.cube.add(timestep, new (wide ? Float32Array : Uint16Array)(data), floats(low), steps);
    if (!this.cube.complete) return;
    if (!this.fresh) this.schedule();
    this.tell("slow");
  }

  take_cube(content) {
    if (content.error) this.notes = [content.error];
    if (this.cubeState === "none" && this.space.cube && !content.error) {
      this.ask("cube", { space: this.state.space });
    }
  }

  take_overview(content) {
    this.extras.overview = content;
    this.tell("slow");
  }

  take_heads(content, buffers) {
    this.extras.heads = { ...content, maps: content.error ? null : floats(buffers[0]) };
    this.tell("slow");
  }

  take_runs(content, buffers) {
    const table = (buffer, width) => {
      const values = floats(buffer);
      return Array.from({ length: values.length / width }, (_, i) => values.subarray(i * width, (i + 1) * width));
    };
    const width = this.names.length;
    this.extras.runs = content.error
      ? { error: content.error }
      : { layers: table(buffers[0], width), timesteps: table(buffers[1], width) };
    this.tell("slow");
  }

  take_page(content, buffers) {
    if (content.error) this.notes = [content.error];
    else download(content.name, new Blob([buffers[0]], { type: "text/html" }));
    this.tell("slow");
  }
}

/** The bytes of a message buffer, at an address that typed arrays accept. */
function bytes(buffer) {
  if (buffer instanceof ArrayBuffer) return buffer;
  return buffer.buffer.slice(buffer.byteOffset, buffer.byteOffset + buffer.byteLength);
}

function floats(buffer) {
  return new Float32Array(bytes(buffer));
}
