// The outline: the tree of modules with what it costs, and the list of nodes that a search finds.

import { button, fill, html } from "./dom.js";
import { brief, bytes, kind, seconds, share, stats, tint } from "./numbers.js";
import { search } from "./search.js";

/**
 * @typedef {import("./data.js").Pass} Pass
 * @typedef {{path: string, depth: number, type: string, first: number, norm: number|null, kind: string, params: number, time: number, bytes: number, badge: string, children: Branch[], at: number}} Branch
 * @typedef {{choose: (id: string) => void, module: (path: string, first: string) => void, find: (query: string) => void}} Told
 */

const ROW = 44; // pixels of a node in the list
const HELP = "op:mm   module:h.3   train.py:42   norm<1e-6   nan   zero   none   leaf   -word";

/** The tree of modules as a table that sorts by each column. */
export class Modules {
  /** @param {Told} told */
  constructor(told) {
    this.told = told;
    this.element = html("div", { class: "modules" });
    this.closed = /** @type {Set<string>} */ (new Set());
    this.sort = "order";
    this._pass = /** @type {Pass|null} */ (null);
    this._root = /** @type {Branch[]} */ ([]);
  }

  /** @param {Pass} pass @param {import("./data.js").Finding[]} findings */
  show(pass, findings) {
    this._pass = pass;
    this._root = tree(pass, findings.filter((found) => found.pass_index === pass.index));
    if (count(this._root) > 60) this._walk((branch) => branch.depth >= 2 && this.closed.add(branch.path));
    this._draw();
  }

  /** @param {(branch: Branch) => void} visit */
  _walk(visit) {
    const waiting = [...this._root];
    while (waiting.length) {
      const branch = /** @type {Branch} */ (waiting.pop());
      visit(branch);
      waiting.push(...branch.children);
    }
  }

  _draw() {
    if (!this._root.length) {
      fill(this.element, html("p", { class: "muted pad" }, "No module was called in this pass."));
      return;
    }
    const total = { time: sum(this._root, "time"), bytes: sum(this._root, "bytes") };
    const columns = /** @type {[string, string][]} */ ([["order", "module"], ["norm", "grad"], ["params", "params"], ["time", "time"], ["bytes", "saved"]]);
    const head = html("tr", {}, columns.map(([key, label]) => html("th", { scope: "col", "aria-sort": this.sort === key ? (key === "order" ? "ascending" : "descending") : "none" }, button(label, `Sort by ${label}`, () => {
      this.sort = key;
      this._draw();
    }, { class: "link" }))));
    const rows = /** @type {HTMLElement[]} */ ([]);
    const waiting = this._sorted(this._root).reverse();
    while (waiting.length) {
      const branch = /** @type {Branch} */ (waiting.pop());
      rows.push(this._row(branch, total));
      if (!this.closed.has(branch.path)) waiting.push(...this._sorted(branch.children).reverse());
    }
    fill(this.element, html("table", {}, html("thead", {}, head), html("tbody", {}, rows)));
  }

  /** @param {Branch[]} branches */
  _sorted(branches) {
    const key = /** @type {"norm"|"params"|"time"|"bytes"|"order"} */ (this.sort);
    return [...branches].sort((a, b) => (key === "order" ? a.at - b.at : (b[key] ?? -1) - (a[key] ?? -1)));
  }

  /** @param {Branch} branch @param {{time: number, bytes: number}} total */
  _row(branch, total) {
    const pass = /** @type {Pass} */ (this._pass);
    const closed = this.closed.has(branch.path);
    const part = share(pass.scale, branch.norm);
    const fold = branch.children.length
      ? button(closed ? "▸" : "▾", `${closed ? "Show" : "Hide"} what is in ${branch.path}`, () => {
        if (!this.closed.delete(branch.path)) this.closed.add(branch.path);
        this._draw();
      }, { class: "twist", "aria-expanded": String(!closed) })
      : html("span", { class: "twist" });
    const name = branch.path.split(".").at(-1) || branch.path;
    const first = pass.nodes[branch.first]?.id ?? "";
    const label = html("th", { scope: "row" }, html("span", { class: "name" }, fold, button(name, `Go to ${branch.path}`, () => this.told.module(branch.path, first), { class: "link" }), branch.type ? html("span", { class: "muted" }, ` ${branch.type}`) : null, branch.badge ? html("b", { class: `flag ${branch.badge}` }, branch.badge === "error" ? " ×" : " !") : null));
    /** @type {HTMLElement} */ (label.firstElementChild).style.paddingInlineStart = `${branch.depth * 10}px`;
    const tell = (/** @type {number} */ value, /** @type {number} */ whole) => (whole && value ? `${Math.round((100 * value) / whole)}%` : "");
    return html("tr", {}, label,
      html("td", {}, html("span", { class: `cell ${tint(branch.kind, part)}` }, branch.kind === "finite" ? brief(branch.norm) : branch.kind)),
      html("td", {}, branch.params ? brief(branch.params) : ""),
      html("td", { title: seconds(branch.time) }, tell(branch.time, total.time)),
      html("td", { title: bytes(branch.bytes) }, tell(branch.bytes, total.bytes)),
    );
  }
}

/** @param {Branch[]} branches @returns {number} */
function count(branches) {
  return branches.reduce((total, branch) => total + 1 + count(branch.children), 0);
}

/** @param {Branch[]} branches @param {"time"|"bytes"} key */
function sum(branches, key) {
  return branches.reduce((total, branch) => total + branch[key], 0);
}

/** The modules of a pass as a tree, each with what its nodes add up to. @param {Pass} pass @param {import("./data.js").Finding[]} findings @returns {Branch[]} */
function tree(pass, findings) {
  const types = new Map(pass.calls.map((call) => [call.path, call.type]));
  const found = /** @type {Map<string, Branch>} */ (new Map());
  const root = /** @type {Branch[]} */ ([]);
  const at = (/** @type {string} */ path) => {
    let branch = found.get(path);
    if (branch) return branch;
    const dot = path.lastIndexOf(".");
    branch = { path, depth: path.split(".").length - 1, type: types.get(path) ?? "", first: -1, norm: null, kind: "none", params: 0, time: 0, bytes: 0, badge: "", children: [], at: found.size };
    found.set(path, branch);
    (dot > 0 ? at(path.slice(0, dot)).children : root).push(branch);
    return branch;
  };
  pass.nodes.forEach((node, place) => {
    if (!node.module) return;
    for (let branch = at(node.module), path = node.module; ; path = path.slice(0, path.lastIndexOf(".")), branch = at(path)) {
      if (branch.first < 0) Object.assign(branch, { first: place, norm: node.grads?.[0]?.norm ?? null, kind: kind(node.grads?.[0]) });
      branch.time += node.seconds ?? 0;
      branch.bytes += (node.saved ?? []).reduce((total, each) => total + (each.bytes ?? 0), 0);
      if (!path.includes(".")) break;
    }
  });
  addLeaves(pass, found);
  addFindings(pass, findings, found);
  return root;
}

/** @param {Pass} pass @param {Map<string, Branch>} found */
function addLeaves(pass, found) {
  for (const node of pass.nodes) {
    if (node.kind !== "leaf" || !node.name?.includes(".")) continue;
    for (let path = node.name; path.includes("."); ) {
      path = path.slice(0, path.lastIndexOf("."));
      const branch = found.get(path);
      if (branch) branch.params = Math.hypot(branch.params, node.grads?.[0]?.norm ?? 0);
    }
  }
}

/** @param {Pass} pass @param {import("./data.js").Finding[]} findings @param {Map<string, Branch>} found */
function addFindings(pass, findings, found) {
  for (const finding of findings) {
    let path = pass.node(finding.nodes?.[0] ?? "")?.module ?? "";
    for (; path; path = path.includes(".") ? path.slice(0, path.lastIndexOf(".")) : "") {
      const branch = found.get(path);
      if (branch && branch.badge !== "error") branch.badge = finding.severity;
    }
  }
}

/** The nodes that a search finds, of which those in sight are drawn. */
export class Nodes {
  /** @param {Told} told */
  constructor(told) {
    this.told = told;
    this.found = /** @type {number[]} */ ([]);
    this.pass = /** @type {Pass|null} */ (null);
    this.chosen = "";
    this.count = html("p", { class: "muted pad", role: "status" });
    this.space = html("div", { class: "space" });
    this.list = html("div", { class: "rows", tabindex: 0, role: "listbox", "aria-label": "Nodes", onscroll: () => this._draw() }, this.space);
    this.element = html("div", { class: "nodes" }, this.count, this.list);
    new ResizeObserver(() => this._draw()).observe(this.list);
  }

  /** @param {Pass} pass @param {string} query @param {string} chosen */
  show(pass, query, chosen) {
    const began = performance.now();
    [this.pass, this.found, this.chosen] = [pass, search(pass, query), chosen];
    this.took = performance.now() - began;
    const words = `${this.found.length.toLocaleString("en")} of ${pass.nodes.length.toLocaleString("en")} nodes`;
    fill(this.count, words, query ? null : html("code", { class: "help" }, HELP));
    this.space.style.height = `${this.found.length * ROW}px`;
    const at = this.found.indexOf(pass.place(chosen));
    if (at >= 0 && (at * ROW < this.list.scrollTop || (at + 1) * ROW > this.list.scrollTop + this.list.clientHeight)) this.list.scrollTop = at * ROW - this.list.clientHeight / 2;
    this._draw();
  }

  /** The id of the node so many rows after the chosen one. @param {number} by */
  next(by) {
    const { pass, found } = this;
    if (!pass || !found.length) return "";
    const at = found.indexOf(pass.place(this.chosen));
    return pass.nodes[found[at < 0 ? 0 : Math.min(found.length - 1, Math.max(0, at + by))]].id;
  }

  _draw() {
    const { pass } = this;
    if (!pass) return;
    const first = Math.max(0, Math.floor(this.list.scrollTop / ROW) - 3);
    const last = Math.min(this.found.length, first + Math.ceil((this.list.clientHeight || 600) / ROW) + 6);
    fill(this.space, ...this.found.slice(first, last).map((place, i) => this._row(pass, place, first + i)));
  }

  /** @param {Pass} pass @param {number} place @param {number} at */
  _row(pass, place, at) {
    const node = pass.nodes[place];
    const grad = node.grads?.[0] ?? null;
    const code = (node.source ?? node.library)?.text ?? "";
    const row = html("div", { class: "node", role: "option", id: `row-${node.id}`, "aria-selected": String(node.id === this.chosen), "aria-posinset": at + 1, "aria-setsize": this.found.length, onclick: () => this.told.choose(node.id) },
      html("i", { class: `swatch ${tint(kind(grad), share(pass.scale, grad?.norm))}` }),
      html("b", {}, node.kind === "function" ? node.op.replace(/Backward\d*$/, "") : node.name || node.kind),
      html("span", { class: "grad" }, stats(grad)),
      html("code", {}, code ? code.slice(0, 120) : node.kind),
      html("span", { class: "muted" }, node.module ?? ""),
    );
    row.style.top = `${at * ROW}px`;
    return row;
  }
}
