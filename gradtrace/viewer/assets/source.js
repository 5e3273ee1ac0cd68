// The source files, each line with the gradient that flowed through it, its time, saved bytes and findings.

import { fill, html } from "./dom.js";
import { bytes, kind, number, seconds, share, tint } from "./numbers.js";

/**
 * @typedef {import("./data.js").Pass} Pass
 * @typedef {import("./data.js").GraphNode} GraphNode
 * @typedef {{norm: number|null, kind: string, time: number, bytes: number, nodes: GraphNode[], findings: import("./data.js").Finding[]}} Line
 */

const SIGN = /** @type {Record<string, string>} */ ({ error: "×", warning: "!", info: "i" });
const ORDER = ["unknown", "none", "zero", "finite", "inf", "nan"];

/** A panel with one file. */
export class SourceView {
  /** @param {import("./data.js").Overview} overview @param {(file: string, line: number, nodes: GraphNode[]) => void} chosen */
  constructor(overview, chosen) {
    this.overview = overview;
    this.chosen = chosen;
    this.pick = /** @type {HTMLSelectElement} */ (html("select", { "aria-label": "Source file", onchange: () => this.chosen(this.pick.value, 0, []) }));
    this.body = html("div", { class: "lines", tabindex: 0, role: "group", "aria-label": "Source text" });
    this.element = html("div", { class: "source" }, this.pick, this.body);
    this._shown = "";
    this._lines = /** @type {Map<string, Map<number, Line>>} */ (new Map());
    this._pass = /** @type {Pass|null} */ (null);
  }

  /** The files that the nodes of a pass were made in, the user's own first. @param {Pass} pass */
  files(pass) {
    this._index(pass);
    return [...this._lines.keys()];
  }

  /** @param {Pass} pass */
  _index(pass) {
    if (this._pass === pass) return;
    this._pass = pass;
    this._lines = new Map();
    for (const node of pass.nodes) if (node.source) this._add(node.source, node);
    for (const node of pass.nodes) if (node.library) this._add(node.library, node);
    for (const found of this.overview.findings) {
      const line = found.source && this._lines.get(found.source.filename)?.get(found.source.line);
      if (line && [0, pass.index].includes(found.pass_index ?? 0)) line.findings.push(found);
    }
  }

  /** @param {import("./data.js").Source} source @param {GraphNode} node */
  _add(source, node) {
    const file = this._lines.get(source.filename) ?? new Map();
    this._lines.set(source.filename, file);
    const line = file.get(source.line) ?? { norm: null, kind: "unknown", time: 0, bytes: 0, nodes: [], findings: [] };
    file.set(source.line, line);
    line.nodes.push(node);
    line.time += node.seconds ?? 0;
    for (const each of node.saved ?? []) line.bytes += each.bytes ?? 0;
    for (const grad of node.grads ?? []) {
      if (ORDER.indexOf(kind(grad)) > ORDER.indexOf(line.kind)) line.kind = kind(grad);
      line.norm = Math.max(line.norm ?? 0, grad?.norm ?? 0);
    }
  }

  /**
   * Show a file, a line in sight, and the expression of a node underlined.
   * @param {Pass} pass
   * @param {string} file
   * @param {number} line
   * @param {GraphNode | undefined} node
   */
  show(pass, file, line, node) {
    const files = this.files(pass);
    const shown = files.includes(file) || file in this.overview.sources ? file : files[0] ?? "";
    const sources = [node?.source, node?.library].filter((source) => source?.filename === shown);
    fill(this.pick, ...[...new Set([...files, shown])].filter(Boolean).map((name) => html("option", { value: name, selected: name === shown }, name)));
    this.pick.value = shown;
    this._render(pass, shown, sources[0] ?? null, line);
    const at = line || sources[0]?.line || 0;
    const row = this.body.querySelector(`[data-number="${at}"]`);
    row?.scrollIntoView({ block: "center" });
  }

  /** @param {Pass} pass @param {string} file @param {import("./data.js").Source | null | undefined} marked @param {number} chosen */
  _render(pass, file, marked, chosen) {
    const text = this.overview.sources[file];
    const lines = this._lines.get(file) ?? new Map();
    const longest = Math.max(1e-12, ...[...lines.values()].map((line) => line.time));
    if (text === undefined) {
      const known = [...lines].sort((a, b) => a[0] - b[0]);
      fill(this.body, html("p", { class: "muted" }, file ? "The text of this file is not here; these are its expressions." : "No source lines were recorded in this pass."),
        ...known.map(([number_, line]) => this._row(pass, file, number_, line.nodes[0].source?.text ?? "", line, marked, chosen, longest)));
      return;
    }
    const rows = text.split("\n").map((content, at) => this._row(pass, file, at + 1, content, lines.get(at + 1), marked, chosen, longest));
    fill(this.body, ...rows);
  }

  /**
   * @param {Pass} pass @param {string} file @param {number} at @param {string} content @param {Line | undefined} line
   * @param {import("./data.js").Source | null | undefined} marked @param {number} chosen @param {number} longest
   */
  _row(pass, file, at, content, line, marked, chosen, longest) {
    const within = marked && at >= marked.line && at <= (marked.end_line || marked.line);
    const words = line ? this._words(line) : "";
    const attributes = { class: `row${at === chosen || (within && !chosen) ? " here" : ""}${line ? " live" : ""}`, "data-number": at, title: words };
    const gutter = [html("span", { class: "number" }, String(at)), ...(line ? this._gutter(pass, line, longest) : [html("span"), html("span"), html("span")])];
    const code = html("code", {}, ...(within && marked ? underlined(content, at, marked) : [content || " "]));
    if (!line) return html("div", attributes, ...gutter, code);
    return html("div", { ...attributes, role: "button", tabindex: 0, onclick: () => this.chosen(file, at, line.nodes), onkeydown: (/** @type {KeyboardEvent} */ event) => event.key === "Enter" && this.chosen(file, at, line.nodes) }, ...gutter, code);
  }

  /** The heat, the worst finding and the time of a line. @param {Pass} pass @param {Line} line @param {number} longest */
  _gutter(pass, line, longest) {
    const part = share(pass.scale, line.norm);
    const bar = html("i", { class: `bar ${tint(line.kind, part)}` });
    if (line.kind === "finite") bar.style.width = `${12 + 26 * (part ?? 0)}px`;
    const worst = line.findings.find((found) => found.severity === "error") ?? line.findings[0];
    return [
      html("span", { class: "heat" }, bar),
      html("span", { class: `flag ${worst?.severity ?? ""}` }, worst ? SIGN[worst.severity] : ""),
      html("span", { class: "time" }, line.time > longest * 0.02 ? seconds(line.time) : ""),
    ];
  }

  /** @param {Line} line */
  _words(line) {
    const parts = [
      `${line.nodes.length} node${line.nodes.length > 1 ? "s" : ""}`,
      line.kind === "finite" ? `gradient up to ‖${number(line.norm)}‖` : `gradient ${line.kind}`,
      line.time ? seconds(line.time) : "",
      line.bytes ? `${bytes(line.bytes)} saved` : "",
      ...line.findings.map((found) => `${found.check}: ${found.message}`),
    ];
    return parts.filter(Boolean).join(" · ");
  }
}

/** A line with the marked columns in it underlined. @param {string} content @param {number} at @param {import("./data.js").Source} marked */
function underlined(content, at, marked) {
  const start = at === marked.line ? marked.column ?? 0 : content.length - content.trimStart().length;
  const end = at === (marked.end_line || marked.line) ? marked.end_column || content.length : content.length;
  return [content.slice(0, start), html("u", {}, content.slice(start, end) || " "), content.slice(end)];
}
