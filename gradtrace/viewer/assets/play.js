// The backward pass step by step, in the order in which it ran: what a node receives, and what it sends on.

import { announce, button, fill, html } from "./dom.js";
import { kind, number, stats } from "./numbers.js";

/**
 * @typedef {import("./data.js").Pass} Pass
 * @typedef {import("./graph.js").Graph} Graph
 * @typedef {{key: string, positions: number[]}} Step
 */

const SPEEDS = /** @type {[string, number][]} */ ([["slow", 2200], ["normal", 1100], ["fast", 350], ["very fast", 80]]);

/** The controls of the play, and what they do to the graph. */
export class Play {
  /** @param {Graph} graph @param {(change: {step?: number, hide?: boolean}) => void} set */
  constructor(graph, set) {
    this.graph = graph;
    this.set = set;
    this.steps = /** @type {Step[]} */ ([]);
    this.step = -1;
    this.timer = 0;
    this.slider = /** @type {HTMLInputElement} */ (html("input", { type: "range", min: 0, value: 0, "aria-label": "Step of the backward pass", oninput: () => this.set({ step: Number(this.slider.value) }) }));
    this.speed = /** @type {HTMLSelectElement} */ (html("select", { "aria-label": "Speed" }, SPEEDS.map(([name, time]) => html("option", { value: time, selected: name === "normal" }, name))));
    this.hide = /** @type {HTMLInputElement} */ (html("input", { type: "checkbox", onchange: () => this.set({ hide: this.hide.checked }) }));
    this.go = html("button", { type: "button", class: "go", onclick: () => this.toggle() }, "Play");
    this.words = html("div", { class: "words", "aria-live": "polite" });
    this.element = html("section", { class: "play", "aria-label": "Play", hidden: true },
      html("div", { class: "controls" },
        button("|◀", "First step", () => this.set({ step: 0 })), button("◀", "Step back", () => this.by(-1)), this.go,
        button("▶", "Step on", () => this.by(1)), button("▶|", "Last step", () => this.set({ step: this.steps.length - 1 })),
        this.slider, this.speed, html("label", {}, this.hide, " hide numbers"), button("✕", "End the play", () => this.end())),
      this.words);
  }

  get on() {
    return this.step >= 0;
  }

  /** Begin at the first step, or go on from where it is. */
  toggle() {
    if (this.timer) return this.pause();
    if (!this.on || this.step >= this.steps.length - 1) this.set({ step: 0 });
    this.go.textContent = "Pause";
    this.timer = window.setTimeout(() => this._tick(), Number(this.speed.value));
    return undefined;
  }

  _tick() {
    if (this.step >= this.steps.length - 1) return this.pause();
    this.set({ step: this.step + 1 });
    this.timer = window.setTimeout(() => this._tick(), Number(this.speed.value));
    return undefined;
  }

  pause() {
    clearTimeout(this.timer);
    this.timer = 0;
    this.go.textContent = "Play";
  }

  end() {
    this.pause();
    this.set({ step: -1, hide: false });
  }

  /** @param {number} by */
  by(by) {
    this.pause();
    this.set({ step: Math.min(this.steps.length - 1, Math.max(0, this.step + by)) });
  }

  /** Show a step; -1 for none. @param {Pass} pass @param {number} step @param {boolean} hide */
  show(pass, step, hide) {
    this.step = step;
    this.hide.checked = hide;
    this.element.toggleAttribute("hidden", step < 0);
    this.graph.hidden = hide;
    this.element.classList.toggle("hiding-numbers", hide);
    if (step < 0) {
      this.graph.marks = new Map();
      this._tell(new Map());
      this.graph.light();
      return;
    }
    this.steps = this._steps(pass);
    this.step = Math.min(step, this.steps.length - 1);
    this.slider.max = String(this.steps.length - 1);
    this.slider.value = String(this.step);
    this._mark(pass);
    const now = this.steps[this.step];
    if (now) this.graph.look(now.key);
    fill(this.words, ...this._words(pass));
    announce(this.words.textContent ?? "");
  }

  /** The boxes in the order in which their nodes ran: neighbours in one box are one step. @param {Pass} pass @returns {Step[]} */
  _steps(pass) {
    const ran = pass.nodes.map((node, at) => ({ at, order: node.kind === "output" ? -1 : node.order ?? null })).filter((each) => each.order !== null);
    ran.sort((a, b) => Number(a.order) - Number(b.order));
    const steps = /** @type {Step[]} */ ([]);
    for (const { at } of ran) {
      const key = this.graph.home.get(at)?.key;
      if (!key) continue;
      const last = steps.at(-1);
      if (last?.key === key) last.positions.push(at);
      else steps.push({ key, positions: [at] });
    }
    return steps;
  }

  /** Mark what has run, what runs now, and what waits. @param {Pass} pass */
  _mark(pass) {
    const marks = new Map();
    const ran = new Set();
    for (const each of this.graph.scene?.boxes ?? []) marks.set(each.key, "waiting");
    this.steps.slice(0, this.step + 1).forEach((step, at) => {
      marks.set(step.key, at === this.step ? "firing" : "done");
      for (const place of step.positions) ran.add(place);
    });
    for (const drawn of this.graph.scene?.lines ?? []) {
      const edges = drawn.line.edges.map((edge) => pass.edges[edge]);
      const sent = edges.some((edge) => ran.has(pass.place(edge.source)));
      const now = drawn.from === this.steps[this.step]?.key;
      marks.set(`${drawn.from} ${drawn.to}`, sent ? (now ? "firing" : "done") : "waiting");
      if (sent && marks.get(drawn.to) === "waiting") marks.set(drawn.to, "filling");
    }
    this.graph.marks = marks;
    this._tell(this._sums(pass, ran));
    this.graph.light();
  }

  /** The sums of boxes and leaves that fill up, by their key. @param {Pass} pass @param {Set<number>} ran */
  _sums(pass, ran) {
    const sums = new Map();
    for (const each of this.graph.scene?.boxes ?? []) {
      const place = each.box.nodes.length === 1 && each.box.nodes[0][0] === each.box.nodes[0][1] ? each.box.nodes[0][0] : -1;
      const text = place < 0 ? "" : this._filled(pass, place, ran);
      if (text) sums.set(each.key, text);
      for (const leaf of each.box.leaves) {
        const filled = this._filled(pass, leaf, ran);
        if (filled) sums.set(pass.nodes[leaf].id, filled);
      }
    }
    return sums;
  }

  /** What has arrived at a node until now, as a sum. @param {Pass} pass @param {number} place @param {Set<number>} ran */
  _filled(pass, place, ran) {
    const edges = pass.arriving(place);
    if (edges.length < 2) return "";
    const terms = edges.filter((edge) => ran.has(pass.place(edge.source))).map((edge) => edge.grad?.values);
    if (!terms.length || !terms.every((term) => typeof term === "number")) return "";
    const name = pass.nodes[place].name || "grad";
    const text = terms.map(number).join(" + ");
    const total = terms.reduce((sum, term) => sum + term, 0);
    return terms.length > 1 ? `${name}: ${text} = ${number(total)}` : `${name}: ${text}`;
  }

  /** Put sums in place of the gradients of boxes that fill up. @param {Map<string, string>} sums */
  _tell(sums) {
    for (const text of this.graph.world.querySelectorAll("text.gradient")) {
      const own = text.getAttribute("data-own") ?? text.textContent ?? "";
      text.setAttribute("data-own", own);
      const key = text.getAttribute("data-leaf") ?? text.closest("[data-key]")?.getAttribute("data-key") ?? "";
      text.textContent = sums.get(key) ?? own;
    }
  }

  /** @param {Pass} pass @returns {HTMLElement[]} */
  _words(pass) {
    const step = this.steps[this.step];
    if (!step) return [html("p", {}, "No node ran in this pass.")];
    const head = html("b", {}, `${this.step + 1} of ${this.steps.length}`);
    if (step.positions.length > 1) {
      const box = this.graph.placed(step.key)?.box;
      return [html("p", {}, head, ` ${box?.rows[0]?.[1] ?? step.key}: ${step.positions.length} nodes run`)];
    }
    const node = pass.nodes[step.positions[0]];
    return [html("p", {}, head, " ", ...this._sentence(pass, node, step.positions[0]))];
  }

  /** @param {Pass} pass @param {import("./data.js").GraphNode} node @param {number} at @returns {(Node|string)[]} */
  _sentence(pass, node, at) {
    const name = node.name || (node.source ?? node.library)?.text || node.op;
    const grad = node.grads?.[0] ?? null;
    const value = html("span", { class: "quiz" }, stats(grad));
    if (node.kind === "output") return [`The pass begins at ${name} with the seed `, value, "."];
    if (node.kind === "leaf") return [html("b", {}, name), " has ", value, ": ", this._filled(pass, at, new Set(pass.nodes.keys())) || "its gradient", "."];
    const sent = pass.out[at].map((edge) => pass.edges[edge]).filter((edge) => edge.grad);
    const words = sent.flatMap((edge, i) => {
      const target = pass.node(edge.target);
      const to = target?.name || (target?.source ?? target?.library)?.text || target?.op || "";
      const [arrived, gone] = [grad?.values, edge.grad?.values];
      const formula = pass.formula(edge);
      const times = typeof arrived === "number" && typeof gone === "number" && arrived !== 0 ? `${number(arrived)} × ${number(gone / arrived)} = ` : "";
      return [i ? ", and " : " and sends ", html("span", { class: "quiz" }, times + stats(edge.grad)), ` to ${to}`, formula ? html("i", {}, ` (${formula})`) : ""];
    });
    return [html("b", {}, node.op), ` of ${name} receives `, value, ...(words.length ? words : kind(grad) === "none" ? [" and sends nothing"] : []), "."];
  }
}
