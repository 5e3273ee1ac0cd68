// What there is to know about the chosen node, or about a fold.

import { button, fill, html } from "./dom.js";
import { bytes, kind, number, seconds, share, size, stats, tint } from "./numbers.js";

/**
 * @typedef {import("./data.js").Pass} Pass
 * @typedef {import("./data.js").GraphNode} GraphNode
 * @typedef {import("./numbers.js").Stats} Stats
 * @typedef {{choose: (id: string) => void, toggle: (key: string) => void, line: (source: import("./data.js").Source) => void, find: (query: string) => void}} Told
 */

const MANY = 60; // entries of a list

/** A panel with all that is known of one node. */
export class Details {
  /** @param {import("./data.js").Overview} overview @param {Told} told */
  constructor(overview, told) {
    this.overview = overview;
    this.told = told;
    this.element = html("div", { class: "details", tabindex: -1 });
  }

  /** @param {Pass} pass @param {GraphNode} node */
  node(pass, node) {
    const at = pass.place(node.id);
    const title = node.kind === "function" ? node.op : node.name || node.kind;
    fill(this.element,
      html("header", {}, html("h2", {}, title), html("p", { class: "muted" }, this._subtitle(node))),
      this._findings(pass, node.id),
      this._code(node),
      section("Computed", node.values?.length ? node.values.map((value, i) => tensor(pass, value, several(node.values, i))) : null),
      section(node.kind === "output" ? "Seed" : "Arrived", this._arrived(pass, node, at)),
      section(".grad", this._held(pass, node)),
      section("Sent on", pass.out[at].map((edge) => this._sent(pass, node, pass.edges[edge]))),
      this._check(pass, node),
      this._kept(node),
      this._facts(pass, node),
    );
  }

  /** @param {Pass} pass @param {import("./scene.js").Placed} placed @param {number[]} positions */
  fold(pass, placed, positions) {
    const nodes = positions.map((at) => pass.nodes[at]);
    const leaves = placed.box.leaves.map((at) => pass.nodes[at]);
    const count = new Map();
    for (const node of nodes) count.set(node.op, (count.get(node.op) ?? 0) + 1);
    const ops = [...count].sort((a, b) => b[1] - a[1]);
    const time = nodes.reduce((sum, node) => sum + (node.seconds ?? 0), 0);
    fill(this.element,
      html("header", {}, html("h2", {}, placed.box.rows[0]?.[1] ?? placed.key), html("p", { class: "muted" }, `${nodes.length.toLocaleString("en")} nodes in one box`)),
      button(placed.open ? "Close" : "Open", placed.open ? "Close this fold" : "Open this fold", () => this.told.toggle(placed.key), { class: "wide" }),
      section("Gradients", placed.box.rows.filter((row) => row[0] === "gradient").map((row) => html("p", { class: "value" }, chip(row[2], row[3]), row[1]))),
      section("Parameters", leaves.slice(0, MANY).map((leaf) => this._link(pass, leaf, leaf.grads?.[0] ?? null))),
      section("Operations", ops.slice(0, 12).map(([op, times]) => html("p", {}, button(op, `Find ${op}`, () => this.told.find(`op:${op}`), { class: "link" }), ` × ${times}`))),
      section("Cost", [html("p", {}, [time ? seconds(time) : "", bytes(saved(nodes)) + " saved"].filter(Boolean).join(" · "))]),
      section("Nodes", [...nodes.slice(0, MANY).map((node) => this._link(pass, node, node.grads?.[0] ?? null)), nodes.length > MANY && html("p", { class: "muted" }, `and ${nodes.length - MANY} more`)]),
    );
  }

  /** @param {Pass} pass @param {import("./data.js").PassRow | undefined} row */
  nothing(pass, row) {
    const broken = pass.edges.filter((edge) => ["nan", "inf"].includes(kind(edge.grad))).length;
    const leaves = pass.nodes.filter((node) => node.kind === "leaf");
    const total = Math.hypot(...leaves.map((leaf) => leaf.grads?.[0]?.norm ?? 0).slice(0, 50000));
    fill(this.element,
      html("header", {}, html("h2", {}, row?.title ?? "Backward pass"), html("p", { class: "muted" }, `${pass.nodes.length.toLocaleString("en")} nodes, ${pass.edges.length.toLocaleString("en")} edges, ${leaves.length.toLocaleString("en")} leaves`)),
      pass.error && html("p", { class: "alert error" }, `stopped by ${pass.error.type}: ${pass.error.message}`),
      broken ? html("p", { class: "alert error" }, `${broken} gradients are not finite`) : null,
      section("From", (row?.outputs ?? []).map(([name, values]) => html("p", { class: "value" }, `${name || "output"} = ${stats(values[0])}`))),
      section("Norm of all leaves' gradients", [html("p", { class: "value" }, number(total))]),
      section("Leaves", leaves.slice(0, MANY).map((leaf) => this._link(pass, leaf, leaf.grads?.[0] ?? null))),
      html("p", { class: "muted" }, "Click a box to choose it, a fold to open it. Press ? for the keys."),
    );
  }

  /** @param {GraphNode} node */
  _subtitle(node) {
    const parts = [node.kind === "function" && node.name ? node.name : node.kind === "function" ? "" : node.kind, node.id, node.order === null || node.order === undefined ? (node.kind === "output" ? "" : "never ran") : `ran as number ${node.order + 1}`];
    return parts.filter(Boolean).join(" · ");
  }

  /** @param {GraphNode} node */
  _code(node) {
    const sources = [node.library, node.source].filter((source) => source !== undefined && source !== null);
    return section("Code", sources.map((source) => html("div", {},
      source.text ? html("pre", { class: "code", tabindex: 0 }, source.text) : null,
      button(`${source.filename}:${source.line}`, "Show this line", () => this.told.line(source), { class: "link" }),
      source.function && source.function !== "<module>" ? html("span", { class: "muted" }, ` in ${source.function}`) : null,
    )));
  }

  /** What a leaf's .grad held before the pass and after it, where that is not what arrived. @param {Pass} pass @param {GraphNode} node */
  _held(pass, node) {
    const { accumulated, reduced } = node;
    const before = accumulated ? less(accumulated.values, node.grads?.[0]?.values) : null;
    return [
      before !== null && html("p", { class: "sum" }, `before: ${listed(before)}`),
      accumulated && tensor(pass, accumulated, "after: "),
      reduced && tensor(pass, reduced, "reduced over all processes: "),
    ];
  }

  /** What arrived, and where several edges meet, as their sum. @param {Pass} pass @param {GraphNode} node @param {number} at */
  _arrived(pass, node, at) {
    const grads = node.grads ?? [];
    const edges = pass.arriving(at);
    const terms = edges.map((edge) => edge.grad?.values);
    const sum = edges.length > 1 && grads.length === 1 && terms.every((term) => typeof term === "number");
    return [
      ...grads.map((grad, i) => tensor(pass, grad, several(grads, i))),
      sum && html("p", { class: "sum" }, `${terms.map((term) => number(term)).join(" + ")} = ${number(grads[0]?.values)}`),
      ...edges.slice(0, MANY).map((edge) => this._end(pass, edge.source, edge, "from")),
    ];
  }

  /** @param {Pass} pass @param {GraphNode} node @param {import("./data.js").Edge} edge */
  _sent(pass, node, edge) {
    const formula = pass.formula(edge);
    const [arrived, sent] = [node.grads?.[0]?.values, edge.grad?.values];
    const scalar = typeof arrived === "number" && typeof sent === "number" && (node.grads?.length ?? 0) === 1 && arrived !== 0;
    return html("div", { class: "sent" },
      this._end(pass, edge.target, edge, "to"),
      formula ? html("p", { class: "formula" }, formula) : null,
      scalar ? html("p", { class: "sum" }, `${number(arrived)} × ${number(sent / arrived)} = ${number(sent)}`) : null,
    );
  }

  /** @param {Pass} pass @param {string} id @param {import("./data.js").Edge} edge @param {string} word */
  _end(pass, id, edge, word) {
    const other = pass.node(id);
    return other ? html("p", { class: "end" }, html("span", { class: "muted" }, `${word} `), this._name(other), " ", chip(kind(edge.grad), share(pass.scale, edge.grad?.norm)), stats(edge.grad)) : null;
  }

  /** @param {Pass} pass @param {GraphNode} node @param {Stats | null} grad */
  _link(pass, node, grad) {
    return html("p", { class: "end" }, this._name(node), " ", chip(kind(grad), share(pass.scale, grad?.norm)), stats(grad));
  }

  /** @param {GraphNode} node */
  _name(node) {
    const name = node.name || (node.kind === "function" ? node.op.replace(/Backward\d*$/, "") : node.kind);
    return button(name, `Choose ${node.id}, ${name}`, () => this.told.choose(node.id), { class: "link" });
  }

  /** @param {Pass} pass @param {GraphNode} node */
  _check(pass, node) {
    const mine = pass.comparisons.filter((found) => found.node === node.id);
    return section("Finite differences", mine.map((found) => html("p", {}, found.agrees === null || found.agrees === undefined ? found.note : `${found.agrees ? "agree" : "DIFFER"}: autograd ${number(found.autograd)}, numeric ${number(found.numeric)}`)));
  }

  /** @param {GraphNode} node */
  _kept(node) {
    const tensors = (node.saved ?? []).map((each) => html("p", {}, html("b", {}, each.name), ` ${each.shape?.length ? each.shape.join("×") : "scalar"} ${each.dtype ?? "float32"}, ${bytes(each.bytes ?? 0)}`));
    const plain = Object.entries(node.attributes ?? {}).map(([key, value]) => html("p", {}, html("b", {}, key), ` ${typeof value === "object" ? JSON.stringify(value) : value}`));
    return section("Saved for backward", [...tensors, ...plain]);
  }

  /** @param {Pass} pass @param {GraphNode} node */
  _facts(pass, node) {
    const rows = /** @type {[string, any][]} */ ([
      ["module", node.module ? button(node.module, `Find ${node.module}`, () => this.told.find(`module:${node.module}`), { class: "link" }) : ""],
      ["time", seconds(node.seconds)],
      ["elements", size(node.grads?.[0]) > 1 ? size(node.grads?.[0]).toLocaleString("en") : ""],
      ["device", node.grads?.[0]?.device && node.grads[0].device !== "cpu" ? node.grads[0].device : ""],
      ["note", pass.notes[node.id] ?? ""],
    ]).filter(([, value]) => value);
    return rows.length ? html("dl", {}, rows.flatMap(([name, value]) => [html("dt", {}, name), html("dd", {}, value)])) : null;
  }

  /** @param {Pass} pass @param {string} id */
  _findings(pass, id) {
    const mine = this.overview.findings.filter((found) => (found.pass_index ?? 0) === pass.index && found.nodes?.includes(id));
    return mine.length ? html("div", {}, mine.map((found) => html("p", { class: `alert ${found.severity}` }, html("b", {}, found.check), ` ${found.message}`, found.hint ? html("span", { class: "hint" }, ` → ${found.hint}`) : null))) : null;
  }
}

/** @param {string} name @param {any} children */
function section(name, children) {
  const held = (children ?? []).filter(Boolean);
  return held.length ? html("section", {}, html("h3", {}, name), held) : null;
}

/** @param {any[] | undefined} list @param {number} i */
function several(list, i) {
  return (list?.length ?? 0) > 1 ? `[${i}] ` : "";
}

/** A swatch in the colour of a gradient. @param {string} what @param {number|null} part */
export function chip(what, part) {
  return html("i", { class: `swatch ${tint(what, part)}`, "aria-hidden": "true" });
}

/** What was there before something was added, element by element; null where the elements are not known. @param {any} sum @param {any} added @returns {any} */
function less(sum, added) {
  if (Array.isArray(sum) && Array.isArray(added)) {
    const parts = sum.map((each, at) => less(each, added[at]));
    return parts.includes(null) ? null : parts;
  }
  return typeof sum === "number" && typeof added === "number" ? sum - added : null;
}

/** @param {any} values @returns {string} */
function listed(values) {
  return Array.isArray(values) ? `[${values.map(listed).join(", ")}]` : number(values);
}

/** @param {Pass} pass @param {Stats | null} value @param {string} name */
function tensor(pass, value, name) {
  const spread = value && value.shape.length && (value.mean ?? null) !== null ? `mean ${number(value.mean)}, ${number(value.min)} to ${number(value.max)}` : "";
  const zeros = value?.zeros && value.zeros < 1 && value.shape.length ? `${number(100 * value.zeros)} % zero` : "";
  return html("div", {},
    html("p", { class: "value" }, chip(kind(value), share(pass.scale, value?.norm)), `${name}${stats(value)}`),
    spread || zeros ? html("p", { class: "muted" }, [spread, zeros, value?.dtype].filter(Boolean).join(" · ")) : null,
    value?.magnitudes ? magnitudes(value.magnitudes) : null,
  );
}

/** How many elements there are of each size. @param {Record<string, number>} counts */
function magnitudes(counts) {
  const most = Math.max(1, ...Object.values(counts));
  return html("div", { class: "magnitudes", role: "img", "aria-label": Object.entries(counts).map(([name, count]) => `${name}: ${count}`).join(", ") },
    Object.entries(counts).map(([name, count]) => html("p", {}, html("span", {}, name), html("meter", { max: most, value: count, "aria-hidden": "true" }), html("span", {}, String(count)))));
}

/** @param {GraphNode[]} nodes */
function saved(nodes) {
  return nodes.reduce((sum, node) => sum + (node.saved ?? []).reduce((inner, each) => inner + (each.bytes ?? 0), 0), 0);
}
