// A scene as SVG: for as many boxes as a browser moves smoothly.

import { svg } from "./dom.js";
import { tint } from "./numbers.js";
import { HEADER, path } from "./scene.js";

/**
 * @typedef {import("./scene.js").Scene} Scene
 * @typedef {import("./scene.js").Placed} Placed
 * @typedef {Record<string, [number, number, string]>} Metrics
 */

const SIGNS = /** @type {Record<string, string>} */ ({ error: "×", warning: "!", info: "i" });

/**
 * Draw a scene; each box carries its key, each line the keys of its ends.
 * @param {Scene} scene
 * @param {Metrics} metrics
 */
export function drawing(scene, metrics) {
  const opened = scene.boxes.filter((each) => each.open);
  const closed = scene.boxes.filter((each) => !each.open);
  return svg("g", {},
    opened.map(backdrop),
    scene.frames.map(frame),
    scene.lines.map(line),
    closed.map((each) => card(each, metrics)),
    opened.map(header),
    svg("g", { class: "texts" }, scene.lines.map(label)),
  );
}

/** @param {Placed} each */
function backdrop(each) {
  return svg("rect", { class: `inside depth${each.depth % 2}`, x: each.x, y: each.y, width: each.w, height: each.h, rx: 10 });
}

/** @param {Placed} each */
function header(each) {
  const title = each.box.rows[0]?.[1] ?? each.key;
  return svg("g", { class: "header", "data-key": each.key, transform: `translate(${each.x},${each.y})` },
    svg("rect", { width: each.w, height: HEADER - 6, rx: 8 }),
    svg("text", { x: 12, y: 17, class: "title" }, title),
    svg("text", { x: each.w - 16, y: 17, class: "sign" }, "−"),
  );
}

/** @param {import("./scene.js").Frame} each */
function frame(each) {
  return svg("g", { class: "frame" },
    svg("rect", { x: each.x, y: each.y, width: each.w, height: each.h, rx: 8 }),
    svg("text", { x: each.x + 8, y: each.y + 12 }, each.label),
  );
}

/** @param {import("./scene.js").Drawn} drawn @param {number} at */
function line(drawn, at) {
  const { kind, share } = drawn.line;
  const width = kind === "finite" ? 1 + 3.6 * share : kind === "inf" ? 4.5 : kind === "nan" ? 4 : 1.5;
  const points = path(drawn.points);
  return svg("g", { class: `line ${tint(kind, share)}`, "data-from": drawn.from, "data-to": drawn.to, "data-line": at },
    svg("path", { d: points, "stroke-width": width.toFixed(1) }),
    kind === "nan" && svg("path", { d: points, class: "core", "stroke-width": 1.4 }),
    tip(drawn.points, width),
  );
}

/** The arrow's head, along the last piece of a line. @param {number[]} points @param {number} width */
function tip(points, width) {
  if (points.length < 4) return null;
  const [fx, fy, tx, ty] = points.slice(-4);
  const length = Math.hypot(tx - fx, ty - fy) || 1;
  const [ux, uy] = [(tx - fx) / length, (ty - fy) / length];
  const size = 5 + width;
  const [bx, by] = [tx - ux * size, ty - uy * size];
  const half = size * 0.45;
  return svg("polygon", { points: `${tx},${ty} ${bx - uy * half},${by + ux * half} ${bx + uy * half},${by - ux * half}` });
}

/** @param {import("./scene.js").Drawn} drawn @param {number} at */
function label(drawn, at) {
  if (!drawn.line.text || !drawn.line.label) return null;
  const { kind, share } = drawn.line;
  return svg("text", { class: `flow ${tint(kind, share)}`, x: drawn.x, y: drawn.y + 4, "data-line": at }, drawn.line.text);
}

/** @param {Placed} each @param {Metrics} metrics */
function card(each, metrics) {
  const folded = isFold(each.box);
  const group = svg("g", { class: `box ${each.box.kind}${folded ? " folded" : ""}`, "data-key": each.key, transform: `translate(${each.x},${each.y})` },
    folded && svg("rect", { class: "behind", x: 4, y: 4, width: each.w, height: each.h, rx: 7 }),
    svg("rect", { class: "card", width: each.w, height: each.h, rx: 7 }),
    folded && svg("text", { class: "sign", x: each.w - 12, y: 16 }, "+"),
  );
  let y = 4;
  for (const row of each.box.rows) {
    const [height] = metrics[row[0]];
    group.append(...textsOf(row, y, each.w, height).filter((part) => part !== null));
    y += height;
  }
  return group;
}

/** Whether a box holds more than one node. @param {import("./data.js").ViewBox} box */
export function isFold(box) {
  return box.nodes.length > 1 || box.nodes[0][0] !== box.nodes[0][1];
}

/** @param {any[]} row @param {number} y @param {number} wide @param {number} height @returns {(SVGElement|null)[]} */
function textsOf(row, y, wide, height) {
  const [role, text, one, two] = row;
  const base = y + height - 5;
  const middle = wide / 2;
  if (role === "gradient") {
    return [
      svg("rect", { class: `chip ${tint(one, two)}`, x: 6, y: y + 1, width: wide - 12, height: height - 3, rx: 4 }),
      svg("text", { class: `gradient ${one}`, x: middle, y: base - 1 }, text),
    ];
  }
  if (role === "leaf") {
    return [
      svg("rect", { class: `chip ${tint(one, two)}`, x: 6, y: y + 1, width: wide - 12, height: height - 3, rx: 4, "data-leaf": row[5] }),
      svg("text", { class: "leafname", x: 11, y: base - 1, "data-leaf": row[5] }, text),
      svg("text", { class: `gradient ${one} right`, x: wide - 11, y: base - 1, "data-leaf": row[5] }, row[4]),
    ];
  }
  if (role === "finding") {
    return [
      svg("rect", { class: `badge ${one}`, x: 6, y: y + 1, width: wide - 12, height: height - 3, rx: 4 }),
      svg("text", { class: "badgetext", x: middle, y: base }, `${SIGNS[one] ?? ""} ${text}`),
    ];
  }
  if (role === "curve") return curve(one, y, wide, height);
  return [svg("text", { class: role, x: middle, y: base }, text)];
}

/** The norms along a run as bars, on a logarithmic scale. @param {(number|string|null)[]} points @param {number} y @param {number} wide @param {number} height */
function curve(points, y, wide, height) {
  const count = Math.min(60, points.length);
  const sampled = Array.from({ length: count }, (_, at) => points[Math.round((at * (points.length - 1)) / Math.max(1, count - 1))]);
  const known = points.filter((each) => typeof each === "number" && each > 0).map((each) => Math.log10(Number(each)));
  const [low, high] = [Math.min(...known), Math.max(...known)];
  const span = Math.max(1, high - low);
  const room = (wide - 24) / count;
  return sampled.map((each, at) => {
    const finite = typeof each === "number" && each > 0;
    const part = finite ? (Math.log10(Number(each)) - (high + low) / 2) / span + 0.5 : 0;
    const tall = finite ? 3 + part * (height - 9) : each === "nan" ? height - 6 : 2;
    const look = finite ? tint("finite", part) : each === "nan" ? "nan" : each === null ? "none" : "zero";
    return svg("rect", { class: `bar ${look}`, x: 12 + at * room, y: y + height - 3 - tall, width: Math.max(1, room - 1), height: tall });
  });
}
