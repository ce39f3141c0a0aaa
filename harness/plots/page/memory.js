"use strict";
// The one script of every page: the timeline of live bytes, the treemap of its peak, the curve.
// Moment 0 is the state before the first event, moment k follows event k. A block is alive from
// its begin up to, but without, its end.
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const find = (name) => document.getElementById(name);
  const whole = (number) => Math.round(number).toLocaleString("en");
  const within = (value, low, high) => Math.min(high, Math.max(low, value));
  const bytes = (size) => {
    const unit = size < 1024 ? 0 : Math.min(4, Math.floor(Math.log2(size) / 10));
    return `${Number((size / 1024 ** unit).toPrecision(4))} ${["B", "KiB", "MiB", "GiB", "TiB"][unit]}`;
  };

  function add(parent, name, attributes = {}, text = "") {
    const isSvg = parent.namespaceURI === SVG || name === "svg";
    const made = document.createElementNS(isSvg ? SVG : "http://www.w3.org/1999/xhtml", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text) made.textContent = text;
    return parent.appendChild(made);
  }

  function canvas(place, height, label) {
    const width = Math.max(280, Math.floor(place.clientWidth));
    place.replaceChildren();
    return [add(place, "svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label }), width];
  }

  // Mark multiples of a power of two from 0 to `top`.
  function byteAxis(svg, top, y, left, right) {
    const step = 2 ** Math.round(Math.log2(Math.max(top, 4) / 4));
    for (let size = 0; size <= top; size += step) {
      add(svg, "line", { x1: left, x2: right, y1: y(size), y2: y(size), class: "rule" });
      add(svg, "text", { x: left - 6, y: y(size) + 4, "text-anchor": "end" }, bytes(size));
    }
  }

  // The first index whose value is at least `least`, in an ascending array.
  function from(values, least) {
    let low = 0, high = values.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (values[middle] < least) low = middle + 1; else high = middle;
    }
    return low;
  }

  class Timeline {
    constructor(data, place) {
      Object.assign(this, data, { place, chosen: null, words: "", marked: null, view: [0, 1] });
      [this.begin, this.end, this.size, this.kind, this.layer, this.line, this.count] = data.blocks;
      this.order = [...this.begin.keys()].sort(
        (a, b) => this.kind[a] - this.kind[b] || this.begin[a] - this.begin[b] || a - b);
      this.total = new Float64Array(this.moments + 1);
      this.size.forEach((size, block) => {
        this.total[this.begin[block]] += size;
        this.total[this.end[block]] -= size;
      });
      for (let at = 1; at <= this.moments; at += 1) this.total[at] += this.total[at - 1];
      this.total = this.total.subarray(0, this.moments);
      this.at = this.peak = this.total.indexOf(Math.max(...this.total));
      this.setAxis(this.phases.length > 1 ? "phases" : "events");
    }
    // Set where each moment begins, from 0 to 1; a phase is as wide as the root of its events.
    setAxis(name) {
      const starts = [...this.phases.map((phase) => phase[1]), this.moments];
      const rooted = (at) => {
        const next = starts.findIndex((start) => start > at);
        return 1 / Math.sqrt(starts[next] - starts[next - 1]);
      };
      const width = {
        phases: rooted, events: () => 1,
        bytes: (at) => 1 + (at ? Math.abs(this.total[at] - this.total[at - 1]) : 0),
        time: (at) => 1e-3 + (this.times[at + 1] ?? this.times[at]) - this.times[at],
      }[name];
      this.x = new Float64Array(this.moments + 1);
      for (let at = 0; at < this.moments; at += 1) this.x[at + 1] = this.x[at] + width(at);
      this.x = this.x.map((x) => x / this.x[this.moments]);
    }
    momentAt(x) { return within(from(this.x, x + 1e-12) - 1, 0, this.moments - 1); }
    event(moment) { return this.events ? this.events[moment] : moment; }
    phase(moment) { return this.phases.filter((phase) => phase[1] <= moment).pop()?.[0] ?? ""; }
    held(moment) { return this.reserved.length > 1 ? this.reserved[moment] : this.reserved[0] ?? 0; }
    alive(block, moment) { return this.begin[block] <= moment && moment < this.end[block]; }
    aliveAt(moment) { return this.order.filter((block) => this.alive(block, moment)); }
    name(block) {
      const [layer, line] = [this.layers[this.layer[block]], this.lines[this.line[block]]];
      return [layer, layer === line ? "" : line].filter(Boolean).join("; ");
    }
    isMatch(block) {
      if (this.marked !== null) return this.layers[this.layer[block]] === this.marked;
      return this.words !== "" && this.name(block).toLowerCase().includes(this.words);
    }
    // Choose the next block that Find marks, and show it where all of it is alive.
    nextMatch(step) {
      const found = this.order.filter((block) => this.isMatch(block));
      if (!found.length) return;
      const at = found.indexOf(this.chosen) + step;
      const block = found[(at + found.length) % found.length];
      this.moveTo(Math.max(this.begin[block], 0));
      this.chosen = block;
    }
    blockAt(moment, height) {
      let below = 0;
      return this.aliveAt(moment).find((block) => (below += this.size[block]) > height) ?? null;
    }
    // Return the highest moment of each pixel.
    columns() {
      const [left, right] = this.view, columns = new Int32Array(this.box.width);
      let at = this.momentAt(left);
      columns.forEach((_, pixel) => {
        const until = left + ((right - left) * (pixel + 1)) / columns.length;
        let best = at;
        for (; at + 1 < this.moments && this.x[at + 1] < until; ) {
          at += 1;
          if (this.total[at] > this.total[best]) best = at;
        }
        columns[pixel] = best;
      });
      return columns;
    }
    draw() {
      const label = `Live bytes by category over ${whole(this.moments - 1)} events; peak ${bytes(this.total[this.peak])}`;
      const [svg, width] = canvas(this.place, 380, label);
      const box = this.box = { left: 70, right: width - 8, top: 34, bottom: 350, width: width - 78 };
      const columns = this.columns();
      const most = columns.reduce((high, at) => Math.max(high, this.total[at], this.held(at)), 1);
      const near = this.limits.map((limit) => limit[1]).filter((limit) => limit < 1.7 * most);
      const top = this.top = 1.06 * Math.max(most, ...near);
      const y = (size) => Math.round(10 * (box.bottom - ((box.bottom - box.top) * size) / top)) / 10;
      byteAxis(svg, top, y, box.left, box.right);
      this.drawStack(svg, columns, y);
      this.drawPhases(svg);
      if (this.reserved.length) {
        const held = Array.from(columns, (at) => this.held(at));
        add(svg, "path", { class: "reserved", d: this.edge(held, 0, box.width, y) });
        add(svg, "text", { x: box.right - 4, y: y(held.at(-1)) + 13, "text-anchor": "end" }, "reserved");
      }
      this.limits.forEach(([name, limit], number) => {
        const isNear = limit <= top, place = isNear ? y(limit) : box.top + 14 + 12 * number;
        if (isNear) add(svg, "line", { x1: box.left, x2: box.right, y1: place, y2: place, class: "limit" });
        add(svg, "text", { x: box.left + 6, y: place - 5, class: "limit" }, `${isNear ? "" : "↑ "}${name}: ${bytes(limit)}`);
      });
      this.marks.forEach(([name, moment]) => this.upright(svg, moment, "limit", name, 15));
      this.upright(svg, this.at, "cursor", this.at === this.peak ? "peak" : "", this.marks.length ? 28 : 15);
    }
    pixel(x) { return this.box.left + ((x - this.view[0]) / (this.view[1] - this.view[0])) * this.box.width; }
    upright(svg, moment, kind, text, below) {
      const { left, right, top, bottom } = this.box, x = this.pixel((this.x[moment] + this.x[moment + 1]) / 2);
      if (x < left || x > right) return;
      add(svg, "line", { x1: x, x2: x, y1: top, y2: bottom, class: kind });
      const side = x > (left + right) / 2 ? { x: x - 5, "text-anchor": "end" } : { x: x + 5 };
      if (text) add(svg, "text", { ...side, y: bottom + below, class: kind }, text);
    }
    // Return the steps of `values` from one column to another, as a path.
    edge(values, first, last, y, back = false) {
      let path = "", before = null;
      for (let step = 0; step < last - first; step += 1) {
        const column = back ? last - 1 - step : first + step, height = y(values[column]);
        if (height === before) continue;
        const x = this.box.left + column + back;
        path += before === null ? `${back ? "L" : "M"}${x},${height}` : `H${x}V${height}`;
        before = height;
      }
      return `${path}H${this.box.left + (back ? first : last)}`;
    }
    drawStack(svg, columns, y) {
      const height = new Float64Array(columns.length), marked = { match: "", chosen: "" };
      const smallest = (2.5 * this.top) / (this.box.bottom - this.box.top);
      let low = height.slice(), lines = "", number = 0;
      const finish = (kind) => {
        const d = `${this.edge(height, 0, height.length, y)}${this.edge(low, 0, height.length, y, true)}Z`;
        add(add(svg, "path", { d, fill: this.kinds[kind][1] }), "title", {}, this.kinds[kind][0]);
        low = height.slice();
      };
      for (const block of this.order) {
        while (number < this.kind[block]) finish(number++);
        const first = from(columns, this.begin[block]), last = from(columns, this.end[block]);
        if (first === last) continue;
        const bottom = this.isMatch(block) || block === this.chosen ? height.slice() : null;
        for (let column = first; column < last; column += 1) height[column] += this.size[block];
        if (this.size[block] > smallest) lines += this.edge(height, first, last, y);
        if (bottom) {
          const shape = `${this.edge(height, first, last, y)}${this.edge(bottom, first, last, y, true)}Z`;
          marked[block === this.chosen ? "chosen" : "match"] += shape;
        }
      }
      while (number < this.kinds.length) finish(number++);
      add(svg, "path", { d: lines, class: "blocks" });
      for (const [kind, d] of Object.entries(marked)) if (d) add(svg, "path", { d, class: kind });
    }
    drawPhases(svg) {
      this.phases.forEach(([name, first], number) => {
        const next = this.phases[number + 1]?.[1] ?? this.moments;
        const left = Math.max(this.box.left, this.pixel(this.x[first]));
        const wide = Math.min(this.box.right, this.pixel(this.x[next])) - left;
        if (first && wide > 5) add(svg, "line", { x1: left, x2: left, y1: 8, y2: this.box.bottom, class: "phase" });
        const middle = { x: left + wide / 2, y: 20, "text-anchor": "middle", class: "phase" };
        if (wide > 8 * name.length) add(svg, "text", middle, name);
      });
    }
    zoom(factor, x) {
      const share = (x - this.view[0]) / (this.view[1] - this.view[0]);
      const wide = within((this.view[1] - this.view[0]) * factor, 0.04 / this.moments, 1);
      this.pan(x - share * wide, wide);
    }
    pan(left, wide = this.view[1] - this.view[0]) {
      const start = within(left, 0, 1 - wide);
      this.view = [start, start + wide];
    }
    moveTo(moment) {
      this.at = within(moment, 0, this.moments - 1);
      const x = this.x[this.at];
      if (x < this.view[0] || x >= this.view[1]) this.pan(x - (this.view[1] - this.view[0]) / 2);
      if (this.chosen !== null && !this.alive(this.chosen, this.at)) this.chosen = null;
    }
    toPhase(step) {
      const starts = this.phases.map((phase) => phase[1]);
      const next = step > 0 ? starts.find((each) => each > this.at) : starts.filter((each) => each < this.at).pop();
      this.moveTo(next ?? this.at);
    }
    choose(step) {
      const here = this.aliveAt(this.at), from = step > 0 ? -1 : here.length;
      const next = (this.chosen === null ? from : here.indexOf(this.chosen)) + step;
      this.chosen = here[within(next, 0, here.length - 1)] ?? null;
    }
    // Write below the picture what a screen reader says too.
    say() {
      const at = this.at, held = this.reserved.length > 1 ? `, ${bytes(this.held(at))} reserved` : "";
      const when = at ? `after event ${whole(this.event(at))} of ${whole(this.event(this.moments - 1))}` : "before the first event";
      const phase = this.phase(at) && `, ${this.phase(at)}`;
      find("moment").textContent = `${bytes(this.total[at])} alive ${when}${phase}${held}`;
      const sums = this.kinds.map(() => 0);
      for (const block of this.aliveAt(at)) sums[this.kind[block]] += this.size[block];
      find("legend").replaceChildren();
      this.kinds.forEach(([name, colour], kind) => {
        const item = add(find("legend"), "li");
        const key = add(item, "svg", { class: "key", viewBox: "0 0 10 10", "aria-hidden": "true" });
        add(key, "rect", { width: 10, height: 10, fill: colour });
        item.append(`${name}: ${bytes(sums[kind])}`);
      });
      find("block").textContent = this.chosen === null ? "" : this.blockText(this.chosen);
      const found = this.words ? this.order.filter((block) => this.isMatch(block)) : [];
      const count = found.reduce((sum, block) => sum + this.count[block], 0);
      const here = found.reduce((sum, block) => sum + (this.alive(block, at) ? this.size[block] : 0), 0);
      find("found").textContent = !this.words ? "" : count ? `${whole(count)} found, ${bytes(here)} alive here` : "none found";
    }
    blockText(block) {
      const count = this.count[block] > 1 ? `${whole(this.count[block])} blocks, ` : "";
      const begin = this.begin[block], end = this.end[block], isFreed = end < this.moments;
      const time = this.times && isFreed ? `, ${((this.times[end] - this.times[begin]) / 1000).toFixed(2)} ms` : "";
      const event = (at) => `event ${whole(this.event(at))}${this.phase(at) && ` (${this.phase(at)})`}`;
      const born = begin ? `allocated by ${event(begin)}` : "there before";
      const gone = isFreed ? `freed by ${event(end)}, ${whole(this.event(end) - this.event(begin))} events later${time}` : "not freed";
      const kind = this.kinds[this.kind[block]][0];
      return `Block: ${count}${bytes(this.size[block])} (${whole(this.size[block])} B), ${kind}; ${this.name(block)}; ${born}, ${gone}`;
    }
  }

  function control(line) {
    const place = line.place, show = () => { line.draw(); line.say(); };
    const wide = () => line.view[1] - line.view[0], here = () => line.x[line.at];
    const xOf = (event) => line.view[0]
      + ((event.clientX - place.getBoundingClientRect().left - line.box.left) / line.box.width) * wide();
    const walk = (step) => (event) =>
      line.moveTo(event.shiftKey ? line.momentAt(here() + (step * wide()) / 10) : line.at + step);
    const keys = {
      ArrowRight: walk(1), ArrowLeft: walk(-1), ArrowUp: () => line.choose(1), ArrowDown: () => line.choose(-1),
      Home: () => line.moveTo(0), End: () => line.moveTo(line.moments - 1), p: () => line.moveTo(line.peak),
      "+": () => line.zoom(0.5, here()), "=": () => line.zoom(0.5, here()), "-": () => line.zoom(2, here()),
      0: () => { line.view = [0, 1]; }, "[": () => line.toPhase(-1), "]": () => line.toPhase(1),
      Escape: () => { Object.assign(line, { chosen: null, marked: null, words: "" }); find("search").value = ""; },
    };
    const on = (target, name, action) => target.addEventListener(name, action, { passive: false });
    on(place, "keydown", (event) => {
      if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      keys[event.key](event);
      show();
    });
    for (const button of document.querySelectorAll("button[data-key]")) {
      on(button, "click", () => { keys[button.dataset.key]({}); show(); });
    }
    on(find("axis"), "change", (event) => { line.setAxis(event.target.value); line.view = [0, 1]; show(); });
    on(find("search"), "input", (event) => {
      Object.assign(line, { words: event.target.value.trim().toLowerCase(), marked: null });
      show();
    });
    on(find("search"), "keydown", (event) => {
      if (event.key !== "Enter" && event.key !== "Escape") return;
      event.preventDefault();
      if (event.key === "Enter") line.nextMatch(event.shiftKey ? -1 : 1); else keys.Escape();
      show();
    });
    on(place, "wheel", (event) => {
      if (!event.ctrlKey && document.activeElement !== place) return; // the page scrolls
      event.preventDefault();
      line.zoom(event.deltaY < 0 ? 0.8 : 1.25, xOf(event));
      show();
    });
    let drag = null, apart = 0;
    const fingers = new Map();
    // Two fingers zoom at their middle; the page itself still scrolls by one.
    const pinch = () => {
      const [one, other] = fingers.values(), before = apart;
      apart = Math.max(10, Math.abs(one - other));
      if (before) line.zoom(before / apart, xOf({ clientX: (one + other) / 2 }));
      line.draw();
    };
    on(place, "pointerdown", (event) => {
      fingers.set(event.pointerId, event.clientX);
      apart = 0;
      drag = fingers.size > 1 ? null : { x: event.clientX, left: line.view[0], moved: false };
    });
    for (const end of ["pointerup", "pointercancel", "pointerleave"]) on(place, end, (event) => fingers.delete(event.pointerId));
    on(place, "pointermove", (event) => {
      if (fingers.has(event.pointerId)) fingers.set(event.pointerId, event.clientX);
      if (fingers.size > 1) { pinch(); return; }
      if (!drag || (!drag.moved && Math.abs(event.clientX - drag.x) < 4)) return;
      if (!drag.moved) place.setPointerCapture(event.pointerId);
      drag.moved = true;
      line.pan(drag.left - ((event.clientX - drag.x) / line.box.width) * wide());
      line.draw();
    });
    on(place, "pointerup", (event) => {
      if (drag && !drag.moved) {
        const { bottom, top, width } = line.box, columns = line.columns();
        const up = bottom - (event.clientY - place.getBoundingClientRect().top);
        line.moveTo(columns[within(Math.floor(((xOf(event) - line.view[0]) / wide()) * width), 0, width - 1)]);
        line.chosen = up > 0 ? line.blockAt(line.at, (line.top * up) / (bottom - top)) : null;
        show();
      }
      drag = null;
    });
    on(place, "pointercancel", () => { drag = null; });
    on(place, "dblclick", (event) => { line.zoom(0.5, xOf(event)); show(); });
    new ResizeObserver(() => line.draw()).observe(place);
    show();
  }

  // Squarified treemap (Bruls, Huizing, van Wijk 2000): rows whose cells are as square as can be.
  function squares(nodes, x, y, width, height, put) {
    let rest = nodes.reduce((sum, node) => sum + node.size, 0), at = 0;
    while (at < nodes.length && rest > 0) {
      const side = Math.min(width, height), area = (width * height) / rest, isFlat = width < height;
      let sum = 0, worst = Infinity, stop = at;
      for (; stop < nodes.length; stop += 1) {
        const next = sum + nodes[stop].size, thick = (next * area) / side;
        const ratios = [at, stop].map((each) => (nodes[each].size * area) / thick ** 2);
        const ratio = Math.max(...ratios, ...ratios.map((each) => 1 / each));
        if (ratio > worst) break;
        [sum, worst] = [next, ratio];
      }
      const thick = (sum * area) / side;
      for (let along = 0; at < stop; at += 1) {
        const long = (nodes[at].size / sum) * side;
        if (isFlat) put(nodes[at], x + along, y, long, thick); else put(nodes[at], x, y + along, thick, long);
        along += long;
      }
      if (isFlat) [y, height] = [y + thick, height - thick]; else [x, width] = [x + thick, width - thick];
      rest -= sum;
    }
  }

  function layerTree(line) {
    const node = (path) => ({ path, size: 0, kinds: line.kinds.map(() => 0), inside: new Map() });
    const root = node("");
    for (const block of line.aliveAt(line.peak)) {
      let at = root, path = "";
      const parts = line.layers[line.layer[block]].split(line.joint).filter(Boolean);
      for (const part of ["", ...parts]) {
        if (part) {
          path = path ? path + line.joint + part : part;
          if (!at.inside.has(part)) at.inside.set(part, node(path));
          at = at.inside.get(part);
        }
        at.size += line.size[block];
        at.kinds[line.kind[block]] += line.size[block];
      }
    }
    return root;
  }

  function treemap(place, line) {
    const cells = [], root = layerTree(line);
    const [svg, width] = canvas(place, 360, "Bytes alive at the peak by layer");
    const put = (node, x, y, wide, high, above = "") => {
      if (wide < 1.5 || high < 1.5) return;
      while (node.inside.size === 1 && [...node.inside.values()][0].size === node.size) [node] = node.inside.values();
      const inside = [...node.inside.values()], isLeaf = !inside.length;
      const name = node.path || "the network itself", cell = add(svg, "g", { class: "cell" });
      const text = `${name}: ${bytes(node.size)} (${((100 * node.size) / root.size).toFixed(1)}%)`;
      let left = x;
      node.kinds.forEach((size, kind) => {
        const part = isLeaf * wide * (size / node.size);
        if (part) add(cell, "rect", { x: left, y, width: part, height: high, fill: line.kinds[kind][1] });
        left += part;
      });
      add(add(cell, "rect", { x, y, width: wide, height: high, class: "edge" }), "title", {}, text);
      const hasHead = !isLeaf && node.path && wide > 50 && high > 30;
      if (hasHead || (isLeaf && high > 15 && wide > 24)) {
        const isOwn = above && node.path + line.joint === above;
        const words = isOwn ? "(own)" : (node.path.startsWith(above) ? node.path.slice(above.length) : node.path) || name;
        add(cell, "text", { x: x + 3, y: y + 12, class: isLeaf ? "on" : "" }, words.slice(0, Math.floor(wide / 7)));
      }
      if (isLeaf) { cells.push([cell, text, node.path]); return; }
      const kinds = node.kinds.map((size, kind) => inside.reduce((rest, each) => rest - each.kinds[kind], size));
      const size = kinds.reduce((sum, each) => sum + each, 0);
      if (size > 0) inside.push({ path: node.path, size, kinds, inside: new Map() });
      inside.sort((a, b) => b.size - a.size);
      const head = hasHead ? 15 : 1, base = node.path && node.path + line.joint;
      squares(inside, x + 1, y + head, Math.max(0, wide - 2), Math.max(0, high - head - 1), (...each) => put(...each, base));
    };
    put(root, 0, 0, width, 360);
    let at = -1;
    const words = line.words0 ??= find("layer").textContent;
    const select = (next) => {
      cells[at]?.[0].classList.remove("selected");
      at = within(next, 0, cells.length - 1);
      cells[at][0].classList.add("selected");
      find("layer").textContent = cells[at][1];
      line.marked = cells[at][2];
      if (line.place) line.draw();
    };
    cells.forEach(([cell], number) => cell.addEventListener("click", () => select(number)));
    place.onkeydown = (event) => {
      if (event.key === "Escape" && at >= 0) {
        cells[at][0].classList.remove("selected");
        [at, line.marked, find("layer").textContent] = [-1, null, words];
        if (line.place) line.draw();
        return;
      }
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (!step || !cells.length) return;
      event.preventDefault();
      select(at + step);
    };
  }

  function curve(place, { points, room, name, batch, largest }) {
    const [svg, width] = canvas(place, 260, `Reserved bytes against the batch; room for ${bytes(room)}`);
    const left = 70, right = width - 16, bottom = 225, last = points.at(-1)[0];
    const top = 1.15 * Math.max(room, ...points.map((point) => point[1]));
    const x = (count) => left + ((right - left) * count) / last;
    const y = (size) => bottom - ((bottom - 12) * size) / top;
    byteAxis(svg, top, y, left, right);
    add(svg, "line", { x1: left, x2: right, y1: y(room), y2: y(room), class: "limit" });
    add(svg, "text", { x: left + 6, y: y(room) - 5, class: "limit" }, `${name}: ${bytes(room)} for PyTorch`);
    add(svg, "polyline", { points: points.map(([count, size]) => `${x(count)},${y(size)}`).join(" "), class: "reserved" });
    if (largest && largest <= last) {
      add(svg, "line", { x1: x(largest), x2: x(largest), y1: 12, y2: bottom, class: "phase" });
      add(svg, "text", { x: x(largest) - 5, y: bottom - 6, "text-anchor": "end" }, `safe up to ${whole(largest)}`);
    }
    const half = (count) => 4 * whole(count).length + 3;
    const middle = (count) => Math.min(x(count), width - half(count));
    let before = -100;
    for (const [count, size] of points) {
      const isAsked = count === batch, kind = size > room && !(count <= largest) ? "over" : "under";
      const dot = add(svg, "circle", { cx: x(count), cy: y(size), r: isAsked ? 6 : 4, class: kind });
      add(dot, "title", {}, `batch ${whole(count)}: ${bytes(size)}`);
      const at = middle(count), meetsAsked = Math.abs(at - middle(batch)) < half(count) + half(batch);
      if (!isAsked && (at - half(count) < before || meetsAsked)) continue;
      before = at + half(count);
      add(svg, "text", { x: at, y: bottom + 17, "text-anchor": "middle", class: isAsked ? "phase" : "" }, whole(count));
    }
    add(svg, "text", { x: right, y: bottom + 33, "text-anchor": "end" }, "batch");
  }

  const data = JSON.parse(find("data").textContent);
  const fitted = (name, draw) => find(name) && new ResizeObserver(() => draw(find(name))).observe(find(name));
  if (data.timeline) {
    const line = new Timeline(data.timeline, find("timeline"));
    if (line.place) control(line);
    fitted("treemap", (place) => treemap(place, line));
  }
  if (data.curve) fitted("curve", (place) => curve(place, data.curve));
})();
