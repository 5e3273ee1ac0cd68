// Two passes side by side: panned, opened and chosen together, their boxes coloured by how much they differ.

import { html } from "./dom.js";
import { Graph } from "./graph.js";
import { kind, number } from "./numbers.js";

/**
 * @typedef {import("./data.js").Pass} Pass
 * @typedef {import("./data.js").GraphNode} GraphNode
 */

/** The second graph, and what ties it to the first. */
export class Compare {
  /** @param {import("./data.js").Library} library @param {Graph} graph @param {{choose: (key: string) => void, toggle: (key: string) => void}} told */
  constructor(library, graph, told) {
    this.first = graph;
    this.second = new Graph(library, { ...told, choose: (key) => told.choose(this._back(key)), moved: () => this._led() });
    this._moves = 0;
    this.head = html("p", { class: "note" });
    this.element = html("div", { class: "second", hidden: true }, this.head, this.second.element);
    this.on = false;
    this._tied = false;
    this._other = /** @type {Map<string, string>} */ (new Map());
  }

  /** Show another pass beside the first. @param {Pass} pass @param {Pass | null} other @param {string[]} open @param {boolean} all */
  async show(pass, other, open, all) {
    this.on = other !== null;
    this.element.toggleAttribute("hidden", !other);
    if (!other) {
      if (this.first.marks.size && [...this.first.marks.values()].some((mark) => mark.startsWith("differs"))) this.first.marks = new Map();
      return;
    }
    await this.second.show(other, open, all);
    this._other = matched(pass, other);
    const back = new Map([...this._other].map(([one, two]) => [two, one]));
    const far = differences(pass, other, this._other);
    this.first.marks = marks(this.first, (node) => far.get(node.id) ?? -1);
    this.second.marks = marks(this.second, (node) => far.get(back.get(node.id) ?? "") ?? -1);
    this.first.light();
    this.second.light();
    const worst = [...far].sort((a, b) => b[1] - a[1])[0];
    const name = worst && pass.node(worst[0]);
    const gone = pass.nodes.length - this._other.size;
    this.head.textContent = `pass ${other.index} · ${worst && worst[1] > 0 && name ? `most different: ${name.name || name.op} by ${number(100 * Math.min(worst[1], 1))} %` : "no gradient differs"}${gone ? ` · ${gone} nodes are in one only` : ""}`;
    this._follow(this.first, this.second);
  }

  /** @param {string} key */
  choose(key) {
    if (this.on) this.second.choose(this._other.get(key) ?? key);
  }

  /** @param {string} key */
  _back(key) {
    for (const [one, two] of this._other) if (two === key) return one;
    return key;
  }

  /** The first has moved: so does the second. */
  moved() {
    if (this.on) this._follow(this.first, this.second);
  }

  /** The second was moved by the reader: so does the first. */
  _led() {
    if (this._moves === this.second.camera.moves) return;
    this._moves = this.second.camera.moves;
    this._follow(this.second, this.first);
  }

  /** @param {Graph} from @param {Graph} to */
  _follow(from, to) {
    if (this._tied || !this.on || !to.scene) return;
    this._tied = true;
    const { x, y, scale } = from.camera;
    Object.assign(to.camera, { x, y, scale, untouched: false });
    to.camera._moved();
    this._tied = false;
  }
}

/** What nodes that are the same have in common, the strictest first. @type {((node: GraphNode) => string)[]} */
const ALIKE = [
  (node) => JSON.stringify([node.kind, node.op, node.name, node.module, node.source?.filename, node.source?.line, node.source?.column]),
  (node) => JSON.stringify([node.kind, node.op, node.kind === "leaf" ? node.name : "", node.module]),
];

/** The nodes of two passes that are the same: of one id and op, or the same op of the same line and module, in order. @param {Pass} one @param {Pass} two @returns {Map<string, string>} */
export function matched(one, two) {
  const found = new Map();
  if (one.nodes.length === two.nodes.length && one.nodes.every((node, at) => node.op === two.nodes[at].op)) {
    one.nodes.forEach((node, at) => found.set(node.id, two.nodes[at].id));
    return found;
  }
  const taken = new Set();
  for (const sign of ALIKE) {
    const waiting = new Map();
    for (const node of two.nodes) if (!taken.has(node.id)) waiting.set(sign(node), [...(waiting.get(sign(node)) ?? []), node.id]);
    for (const node of one.nodes) {
      const other = found.has(node.id) ? undefined : waiting.get(sign(node))?.shift();
      if (other) found.set(node.id, taken.add(other) && other);
    }
  }
  return found;
}

/** How far the gradients of matched nodes are apart: 0 the same, 1 as far as the larger is large. @param {Pass} one @param {Pass} two @param {Map<string, string>} pairs */
export function differences(one, two, pairs) {
  const found = new Map();
  for (const [a, b] of pairs) {
    const [x, y] = [one.node(a)?.grads?.[0], two.node(b)?.grads?.[0]];
    if (kind(x) !== kind(y)) found.set(a, 1);
    else if (kind(x) === "finite") {
      const points = [["norm", x?.norm, y?.norm], ["mean", x?.mean, y?.mean], ["min", x?.min, y?.min], ["max", x?.max, y?.max]];
      const scale = Math.max(Math.abs(x?.norm ?? 0), Math.abs(y?.norm ?? 0), 1e-300);
      found.set(a, Math.max(...points.map(([, p, q]) => Math.abs(Number(p ?? 0) - Number(q ?? 0)) / scale)));
    } else found.set(a, 0);
  }
  return found;
}

/** @param {Graph} graph @param {(node: GraphNode) => number} far */
function marks(graph, far) {
  const found = new Map();
  for (const each of graph.scene?.boxes ?? []) {
    let worst = -1;
    for (const at of [...graph.positions(each.key), ...each.box.leaves]) worst = Math.max(worst, far(/** @type {Pass} */ (graph.pass).nodes[at]));
    found.set(each.key, worst < 0 ? "differs-alone" : `differs${worst < 1e-6 ? 0 : worst < 0.01 ? 1 : worst < 0.1 ? 2 : worst < 0.5 ? 3 : 4}`);
  }
  return found;
}
