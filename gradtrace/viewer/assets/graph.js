// The graph: one pass on SVG or canvas, its folds opened in place, the chosen node and its ways lit.

import { announce, fill, html, svg } from "./dom.js";
import { number } from "./numbers.js";
import { ways } from "./ways.js";
import { compose, nextTo } from "./scene.js";
import { Camera } from "./camera.js";
import { drawing, isFold } from "./svg.js";
import { Painter } from "./canvas.js";

/**
 * @typedef {import("./data.js").Pass} Pass
 * @typedef {import("./data.js").View} View
 * @typedef {import("./scene.js").Placed} Placed
 * @typedef {{above: Set<number>, below: Set<number>}} Ways
 */

export const MOST_SVG = 500; // boxes
const MISSING = "this had no room in the file: save the trace, and open it with gradtrace view";

/** One pass, drawn. */
export class Graph {
  /**
   * @param {import("./data.js").Library} library
   * @param {{choose: (key: string) => void, toggle: (key: string) => void, moved: () => void}} told
   */
  constructor(library, told) {
    this.library = library;
    this.told = told;
    this.world = svg("g");
    this.picture = svg("svg", { class: "picture", role: "img" }, this.world);
    this.canvas = /** @type {HTMLCanvasElement} */ (html("canvas", { hidden: true }));
    this.note = html("p", { class: "note" });
    this.legend = html("p", { class: "legend" });
    this.element = html("div", { class: "graph", tabindex: 0, role: "group", "aria-label": "Graph" }, this.picture, this.canvas, html("div", { class: "notes" }, this.note, this.legend));
    this.camera = new Camera(this.element, () => this._moved(), (event) => this._clicked(event));
    this.scene = /** @type {import("./scene.js").Scene | null} */ (null);
    this.pass = /** @type {Pass | null} */ (null);
    this.painter = /** @type {Painter | null} */ (null);
    this.home = /** @type {Map<number, Placed>} */ (new Map());
    this.open = /** @type {string[]} */ ([]);
    this.all = false;
    this.ways = /** @type {Ways | null} */ (null);
    this.chosen = "";
    this.marks = /** @type {Map<string, string>} */ (new Map());
    this.hidden = false;
    this._groups = /** @type {Map<string, Element>} */ (new Map());
    this._drawing = 0;
    this._problem = "";
    new ResizeObserver(() => (this.camera.untouched && this.scene ? this.fit(false) : this.camera.redraw())).observe(this.element);
  }

  /**
   * Draw a pass with these folds open.
   * @param {Pass} pass
   * @param {string[]} open keys of folds, or paths of modules
   * @param {boolean} all whether to fold nothing
   * @returns {Promise<void>}
   */
  async show(pass, open, all) {
    const turn = ++this._drawing;
    this._problem = "";
    const fresh = this.pass !== pass || this.all !== all;
    const root = await this._view(pass.index, all ? "*" : "");
    if (!root) return all ? this.show(pass, open, false).then(() => this.say(MISSING)) : this.say(this._problem);
    const inside = all ? new Map() : await this._inside(pass.index, root, open);
    if (turn !== this._drawing) return undefined;
    const anchor = fresh ? null : this._anchor(open);
    [this.pass, this.open, this.all] = [pass, open, all];
    this.scene = compose(root, inside);
    this.note.textContent = this._problem || (all ? "" : this._noted(root));
    const [low, high] = pass.scale;
    fill(this.legend, `gradient ${number(low)} `, ...[0, 1, 2, 3, 4].map((step) => html("i", { class: `swatch heat${step}` })), number(high));
    this._draw();
    if (fresh || !anchor) this.fit(false);
    else this._hold(anchor);
    return undefined;
  }

  /** A view; null where there is none, and then the problem in words. @param {number} index @param {string} key */
  async _view(index, key) {
    try {
      const view = await this.library.view(index, key);
      if (!view) this._problem = MISSING;
      return view;
    } catch (error) {
      this._problem = error instanceof TypeError ? "gradtrace view has ended: this page can show no more" : String(/** @type {Error} */ (error).message);
      return null;
    }
  }

  /** How much is folded, and how many folds had no room in the file. @param {View} root */
  _noted(root) {
    const { left } = this.library.overview;
    const folded = root.note?.find((words) => words.includes(" boxes")) ?? "";
    return [folded, left ? `${left} folds need gradtrace view: they had no room in this file` : ""].filter(Boolean).join(" · ");
  }

  /** Fetch the views of the folds that are open, from the outside in. @param {number} index @param {View} root @param {string[]} open */
  async _inside(index, root, open) {
    const inside = new Map();
    const wanted = new Set(open);
    let waiting = [root];
    while (waiting.length) {
      const boxes = waiting.flatMap((view) => view.boxes.filter((box) => wanted.has(box.key) || (box.name && wanted.has(box.name))));
      const found = await Promise.all(boxes.map(async (box) => ({ box, view: await this._view(index, box.key) })));
      waiting = [];
      for (const { box, view } of found) {
        if (!view) this.say(this._problem);
        else {
          inside.set(box.key, view);
          waiting.push(view);
        }
      }
    }
    return inside;
  }

  /** The box that was opened or closed, and where it is on the screen. @param {string[]} open */
  _anchor(open) {
    const changed = [...open.filter((key) => !this.open.includes(key)), ...this.open.filter((key) => !open.includes(key))];
    const scene = this.scene;
    const placed = scene?.boxes.find((each) => changed.includes(each.key) || changed.includes(each.box.name)) ?? scene?.boxes[0];
    return placed ? { key: placed.key, ...this._top(placed) } : null;
  }

  /** @param {Placed} placed */
  _top(placed) {
    const { x, y, scale } = this.camera;
    return { x: x + scale * (placed.x + placed.w / 2), y: y + scale * placed.y };
  }

  /** @param {{key: string, x: number, y: number}} anchor */
  _hold(anchor) {
    const placed = this.scene?.boxes.find((each) => each.key === anchor.key);
    if (!placed) return;
    const now = this._top(placed);
    const untouched = this.camera.untouched;
    this.camera.pan(anchor.x - now.x, anchor.y - now.y);
    this.camera.untouched = untouched && false;
  }

  _draw() {
    const scene = /** @type {import("./scene.js").Scene} */ (this.scene);
    const metrics = this.library.overview.metrics;
    const many = scene.boxes.length > MOST_SVG;
    this.canvas.toggleAttribute("hidden", !many);
    this.picture.toggleAttribute("hidden", many);
    this.painter = many ? new Painter(this.canvas, scene, metrics) : null;
    fill(this.world, many ? null : drawing(scene, metrics));
    this._groups = new Map([...this.world.querySelectorAll("[data-key]")].map((group) => [group.getAttribute("data-key") ?? "", group]));
    this.home = new Map();
    for (const placed of scene.boxes) {
      if (placed.open) continue;
      for (const [first, last] of placed.box.nodes) for (let at = first; at <= last; at += 1) this.home.set(at, placed);
    }
    for (const placed of scene.boxes) for (const at of placed.box.leaves) if (!placed.open && !this.home.has(at)) this.home.set(at, placed);
    this.light();
  }

  /** @param {string} key @returns {Placed | undefined} */
  placed(key) {
    return this.scene?.boxes.find((each) => each.key === key);
  }

  /** The box that shows a node, itself or the fold around it. @param {string} id @returns {Placed | undefined} */
  boxOf(id) {
    return this.placed(id) ?? this.home.get(this.pass?.place(id) ?? -1);
  }

  /** The positions of all nodes that a key stands for: of a node, or of a fold. @param {string} key @returns {number[]} */
  positions(key) {
    const place = this.pass?.place(key) ?? -1;
    if (place >= 0) return [place];
    const found = [];
    for (const [first, last] of this.placed(key)?.box.nodes ?? []) for (let at = first; at <= last; at += 1) found.push(at);
    return found;
  }

  /** Choose a node or a fold: its ways are lit. @param {string} key */
  choose(key) {
    this.chosen = key;
    const starts = this.pass && key ? this.positions(key) : [];
    this.ways = starts.length && this.pass ? ways(this.pass, starts) : null;
    this.light();
  }

  /** Light what is chosen and dim the rest; put the marks of the play or of a comparison. */
  light() {
    const home = this.chosen ? this.boxOf(this.chosen)?.key : "";
    for (const [key, group] of this._groups) {
      const mark = this.marks.get(key) ?? "";
      group.classList.toggle("dim", this.dim(key));
      group.classList.toggle("chosen", key === home);
      group.setAttribute("data-mark", mark);
    }
    for (const group of this.world.querySelectorAll("[data-line]")) {
      const at = Number(group.getAttribute("data-line"));
      group.classList.toggle("dim", this.lineDim(at));
      const drawn = this.scene?.lines[at];
      const mark = drawn ? this.marks.get(`${drawn.from} ${drawn.to}`) ?? "" : "";
      group.setAttribute("data-mark", mark);
    }
    for (const part of this.world.querySelectorAll("[data-leaf]")) part.classList.toggle("picked", this.chosen !== "" && part.getAttribute("data-leaf") === this.chosen);
    this.element.classList.toggle("hiding", this.hidden);
    this.camera.redraw();
  }

  /** @param {string} key */
  dim(key) {
    const { ways: lit } = this;
    const placed = this.placed(key);
    if (!lit || !placed) return false;
    const has = (/** @type {number} */ at) => lit.above.has(at) || lit.below.has(at);
    if (placed.box.leaves.some(has)) return false;
    for (const [first, last] of placed.box.nodes) for (let at = first; at <= last; at += 1) if (has(at)) return false;
    return true;
  }

  /** @param {number} at */
  lineDim(at) {
    const { ways: lit, pass } = this;
    const drawn = this.scene?.lines[at];
    if (!lit || !pass || !drawn) return false;
    const within = (/** @type {Set<number>} */ set, /** @type {import("./data.js").Edge} */ edge) => set.has(pass.place(edge.source)) && set.has(pass.place(edge.target));
    if (!drawn.line.edges.length) return this.dim(drawn.from) || this.dim(drawn.to);
    return !drawn.line.edges.some((edge) => within(lit.above, pass.edges[edge]) || within(lit.below, pass.edges[edge]));
  }

  /** Bring the box of a node into sight. @param {string} id @param {boolean} [always] */
  look(id, always = false) {
    const placed = this.boxOf(id);
    if (placed) this.camera.show(placed, always);
  }

  /** @param {boolean} [whole] */
  fit(whole = true) {
    const first = this.scene?.boxes[0];
    if (this.scene && first) this.camera.fit(this.scene, whole, first.x + first.w / 2);
  }

  /** @param {string} words */
  say(words) {
    this.note.textContent = words;
    announce(words);
  }

  _moved() {
    const { x, y, scale } = this.camera;
    if (this.painter) {
      const home = this.chosen ? this.boxOf(this.chosen)?.key : "";
      this.painter.draw(this.camera, { dim: this._dimmed(), chosen: (key) => key === home || this.marks.get(key) === "firing", lineDim: (at) => this.lineDim(at), hidden: this.hidden });
    } else this.world.setAttribute("transform", `translate(${x.toFixed(2)},${y.toFixed(2)}) scale(${scale.toFixed(4)})`);
    this.element.classList.toggle("far", scale < 0.3);
    this.told.moved();
  }

  /** Which boxes are dim, found once for a frame. @returns {(key: string) => boolean} */
  _dimmed() {
    if (!this.ways) return () => false;
    const lit = new Set([...this.ways.above, ...this.ways.below].map((at) => this.home.get(at)?.key));
    return (key) => !lit.has(key);
  }

  /** @param {PointerEvent} event */
  _clicked(event) {
    const target = /** @type {Element} */ (event.target);
    if (this.hidden && target.classList.contains("flow")) return void target.classList.add("shown");
    const leaf = target.getAttribute?.("data-leaf");
    const placed = this._hit(event);
    this.element.focus({ preventScroll: true });
    if (leaf) return this.told.choose(leaf);
    if (!placed) return this.told.choose("");
    if (placed.open || (isFold(placed.box) && !event.altKey)) return this.told.toggle(placed.key);
    return this.told.choose(placed.key);
  }

  /** The innermost box at a pointer; of an open one, its header only. @param {PointerEvent} event */
  _hit(event) {
    const [x, y] = this.camera.point(event);
    const hits = (this.scene?.boxes ?? []).filter((each) => x >= each.x && x <= each.x + each.w && y >= each.y && y <= each.y + (each.open ? 24 : each.h));
    return hits.sort((a, b) => Number(a.open) - Number(b.open) || b.depth - a.depth)[0];
  }

  /** The key of the box next to the chosen one, in a direction. @param {"up"|"down"|"left"|"right"} where @returns {string} */
  beside(where) {
    return this.scene ? nextTo(this.scene, this.boxOf(this.chosen), where) : "";
  }
}
