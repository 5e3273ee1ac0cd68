// The search language: op:mm module:h.3 train.py:42 norm<1e-6 nan zero none, plain text; all must hold, - means not.

/** @typedef {import("./data.js").Pass} Pass */
/** @typedef {import("./data.js").GraphNode} GraphNode */

import { kind } from "./numbers.js";

const NUMBER = /^(norm|mean|min|max|seconds|zeros|nan|inf)(<=|>=|<|>|=)(.+)$/;
const SPECIAL = new Set(["nan", "inf", "zero", "none", "leaf", "output", "function", "nonfinite"]);

/** Text of all nodes in lower case, made once for each pass. @type {WeakMap<Pass, string[]>} */
const texts = new WeakMap();

/**
 * Return the positions of the nodes that a search finds.
 * @param {Pass} pass
 * @param {string} query
 * @returns {number[]}
 */
export function search(pass, query) {
  const tests = query.match(/"[^"]*"|\S+/g)?.map((word) => test(word.toLowerCase())) ?? [];
  const held = textOf(pass);
  const found = [];
  for (let at = 0; at < pass.nodes.length; at += 1) {
    if (tests.every((holds) => holds(pass.nodes[at], held[at]))) found.push(at);
  }
  return found;
}

/** @param {Pass} pass @returns {string[]} */
function textOf(pass) {
  let held = texts.get(pass);
  if (!held) {
    held = pass.nodes.map((node) => {
      const source = node.source;
      const where = source ? `${source.filename}:${source.line}\u0001${source.text ?? ""}` : "";
      return `${node.id}\u0001${node.op}\u0001${node.name ?? ""}\u0001${node.module ?? ""}\u0001${where}`.toLowerCase();
    });
    texts.set(pass, held);
  }
  return held;
}

/**
 * @param {string} word
 * @returns {(node: GraphNode, text: string) => boolean}
 */
function test(word) {
  if (word.startsWith("-") && word.length > 1) {
    const holds = test(word.slice(1));
    return (node, text) => !holds(node, text);
  }
  const compared = NUMBER.exec(word);
  if (compared && !Number.isNaN(Number(compared[3]))) return comparing(compared[1], compared[2], Number(compared[3]));
  if (word.startsWith("op:")) return (node) => node.op.toLowerCase().includes(word.slice(3));
  if (word.startsWith("module:")) return (node) => within((node.module ?? "").toLowerCase(), word.slice(7));
  if (word.startsWith("name:")) return (node) => (node.name ?? "").toLowerCase().includes(word.slice(5));
  if (SPECIAL.has(word)) return (node) => special(node, word);
  const line = /^(.+):(\d+)$/.exec(word);
  if (line) return (node) => stands(node.source, line[1], Number(line[2])) || stands(node.library, line[1], Number(line[2]));
  const plain = word.replace(/^"|"$/g, "");
  return (_, text) => text.includes(plain);
}

/** @param {string} path @param {string} asked */
function within(path, asked) {
  return path === asked || path.startsWith(`${asked}.`) || path.endsWith(`.${asked}`) || path.includes(`.${asked}.`);
}

/** @param {import("./data.js").Source | undefined} source @param {string} file @param {number} line */
function stands(source, file, line) {
  if (!source || line < source.line || line > (source.end_line || source.line)) return false;
  const name = source.filename.toLowerCase();
  return name === file || name.endsWith(`/${file}`) || name.endsWith(`\\${file}`);
}

/** @param {GraphNode} node @param {string} word */
function special(node, word) {
  if (word === node.kind) return true;
  const kinds = node.grads?.length ? node.grads.map((grad) => kind(grad)) : ["none"];
  return word === "nonfinite" ? kinds.includes("nan") || kinds.includes("inf") : kinds.includes(/** @type {any} */ (word));
}

/** @param {string} field @param {string} sign @param {number} limit */
function comparing(field, sign, limit) {
  /** @type {Record<string, (a: number, b: number) => boolean>} */
  const signs = { "<": (a, b) => a < b, ">": (a, b) => a > b, "<=": (a, b) => a <= b, ">=": (a, b) => a >= b, "=": (a, b) => a === b };
  const holds = signs[sign];
  /** @param {any} value */
  const fits = (value) => typeof value === "number" && holds(value, limit);
  if (field === "seconds") return (/** @type {GraphNode} */ node) => fits(node.seconds);
  const usual = field === "nan" || field === "inf" || field === "zeros" ? 0 : null;
  return (/** @type {GraphNode} */ node) => (node.grads ?? []).some((grad) => grad && fits(/** @type {any} */ (grad)[field] ?? usual));
}
