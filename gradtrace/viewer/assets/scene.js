// One scene out of the views: folds that are open stand in place of their box, and what is around makes room.

/**
 * @typedef {import("./data.js").View} View
 * @typedef {import("./data.js").ViewBox} ViewBox
 * @typedef {import("./data.js").ViewLine} ViewLine
 * @typedef {{x: number, y: number, w: number, h: number}} Rect
 * @typedef {Rect & {box: ViewBox, key: string, open: boolean, depth: number}} Placed
 * @typedef {{line: ViewLine, from: string, to: string, points: number[], x: number, y: number}} Drawn
 * @typedef {Rect & {label: string, boxes: string[], depth: number}} Frame
 * @typedef {{width: number, height: number, boxes: Placed[], lines: Drawn[], frames: Frame[]}} Scene
 */

export const HEADER = 30; // of an open fold, with its name and the button that closes it
const MARGIN = 10; // around what is in an open fold
const FADE = 140; // how far above and below an open fold others are pushed aside

/**
 * Put views together.
 * @param {View} view
 * @param {Map<string, View>} inside the views of the folds that are open, by their key
 * @param {number} [depth]
 * @returns {Scene}
 */
export function compose(view, inside, depth = 0) {
  const scene = alone(view, depth);
  const opened = scene.boxes.filter((placed) => inside.has(placed.key)).sort((a, b) => a.y - b.y);
  for (const placed of opened) {
    insert(scene, placed, compose(/** @type {View} */ (inside.get(placed.key)), inside, depth + 1));
  }
  if (!opened.length) return scene;
  for (const frame of scene.frames) enclose(frame, scene);
  return tight(scene);
}

/** @param {View} view @param {number} depth @returns {Scene} */
function alone(view, depth) {
  return {
    width: view.width,
    height: view.height,
    boxes: view.boxes.map((box) => ({ box, key: box.key, open: false, depth, ...rect(box.at) })),
    lines: view.lines.map((line) => ({
      line, from: line.from, to: line.to, points: [...line.points], x: line.label?.[0] ?? 0, y: line.label?.[1] ?? 0,
    })),
    frames: view.frames.map((frame) => ({ label: frame.label, boxes: [...frame.boxes], depth: frame.depth + 100 * depth, ...rect(frame.at) })),
  };
}

/** @param {number[]} at @returns {Rect} */
function rect([x, y, w, h]) {
  return { x, y, w, h };
}

/**
 * Put the scene of a fold in place of its box, the middle of its upper edge staying where it is.
 * @param {Scene} scene
 * @param {Placed} placed
 * @param {Scene} inner
 */
function insert(scene, placed, inner) {
  const before = { x: placed.x, y: placed.y, w: placed.w, h: placed.h };
  const wide = Math.max(placed.w, inner.width + 2 * MARGIN);
  const high = inner.height + HEADER + MARGIN;
  const warp = warping(before, wide, high);
  const centers = new Map(scene.boxes.map((each) => [each.key, middle(each)]));
  for (const each of scene.boxes) {
    if (each !== placed) move(each, warp);
  }
  Object.assign(placed, { x: before.x + before.w / 2 - wide / 2, y: before.y, w: wide, h: high, open: true });
  const shifts = new Map(scene.boxes.map((each) => [each.key, shift(/** @type {any} */ (centers.get(each.key)), middle(each))]));
  for (const drawn of scene.lines) bend(drawn, warp, shifts, placed.key);
  const left = placed.x + (wide - inner.width) / 2;
  const top = placed.y + HEADER;
  adopt(scene, inner, placed, left, top);
}

/** @param {Rect} each */
function middle(each) {
  return [each.x + each.w / 2, each.y + each.h / 2];
}

/** @param {number[]} before @param {number[]} after */
function shift(before, after) {
  return [after[0] - before[0], after[1] - before[1]];
}

/**
 * The way that a point goes when a rectangle grows: down by what it grows below it, aside where it is beside it.
 * @param {Rect} before
 * @param {number} wide
 * @param {number} high
 * @returns {(x: number, y: number) => [number, number]}
 */
function warping(before, wide, high) {
  const grown = [wide - before.w, high - before.h];
  const [left, right, top, bottom] = [before.x, before.x + before.w, before.y, before.y + before.h];
  return (x, y) => {
    const away = y < top ? top - y : y > bottom ? y - bottom : 0;
    const strength = Math.max(0, 1 - away / FADE);
    const across = before.w ? Math.min(1, Math.max(0, (x - left) / (right - left))) - 0.5 : 0;
    const down = before.h ? Math.min(1, Math.max(0, (y - top) / (bottom - top))) : 1;
    return [x + strength * across * grown[0], y + down * grown[1]];
  };
}

/** @param {Rect} each @param {(x: number, y: number) => [number, number]} warp */
function move(each, warp) {
  const [x, y] = warp(each.x + each.w / 2, each.y + each.h / 2);
  each.x = x - each.w / 2;
  each.y = y - each.h / 2;
}

/**
 * Move a line with what is around it, its ends with the boxes that they stand at.
 * @param {Drawn} drawn
 * @param {(x: number, y: number) => [number, number]} warp
 * @param {Map<string, number[]>} shifts
 * @param {string} opened the key of the box that has grown, whose ends are spread over its edge
 */
function bend(drawn, warp, shifts, opened) {
  const old = drawn.points;
  const count = old.length / 2;
  const found = /** @type {[number, number][]} */ ([]);
  for (let at = 0; at < count; at += 1) found.push(warp(old[2 * at], old[2 * at + 1]));
  const ends = [drawn.from, drawn.to].map((key, end) => {
    const by = key === opened ? undefined : shifts.get(key);
    const at = end ? count - 1 : 0;
    return by ? [old[2 * at] + by[0] - found[at][0], old[2 * at + 1] + by[1] - found[at][1]] : [0, 0];
  });
  drawn.points = found.flatMap(([x, y], at) => {
    const far = count > 1 ? at / (count - 1) : 0;
    const [start, end] = [Math.max(0, 1 - 2 * far), Math.max(0, 2 * far - 1)];
    return [x + start * ends[0][0] + end * ends[1][0], y + start * ends[0][1] + end * ends[1][1]];
  });
  if (drawn.line.label) [drawn.x, drawn.y] = warp(drawn.x, drawn.y);
}

/** @param {Scene} scene @param {Scene} inner @param {Placed} placed @param {number} left @param {number} top */
function adopt(scene, inner, placed, left, top) {
  for (const each of [...inner.boxes, ...inner.frames]) {
    each.x += left;
    each.y += top;
  }
  for (const drawn of inner.lines) {
    drawn.points = drawn.points.map((value, at) => value + (at % 2 ? top : left));
    drawn.x += left;
    drawn.y += top;
    reach(drawn, placed, inner.height + top);
  }
  for (const frame of scene.frames) {
    if (frame.boxes.includes(placed.key)) frame.boxes.push(...inner.boxes.map((each) => each.key));
  }
  scene.boxes.push(...inner.boxes);
  scene.lines.push(...inner.lines);
  scene.frames.push(...inner.frames);
}

/** Lead a line that comes from outside, or goes there, from or to the border of the fold. @param {Drawn} drawn @param {Placed} placed @param {number} bottom */
function reach(drawn, placed, bottom) {
  if (drawn.from === "" && drawn.points.length) {
    drawn.points[1] = placed.y + HEADER - 6;
    drawn.from = placed.key;
  }
  if (drawn.to === "" && drawn.points.length) {
    drawn.points[drawn.points.length - 1] = Math.max(placed.y + placed.h, bottom);
    drawn.to = placed.key;
  }
}

/** Draw a frame around all that is in it, and around the frames in it. @param {Frame} frame @param {Scene} scene */
function enclose(frame, scene) {
  const keys = new Set(frame.boxes);
  const inside = scene.boxes.filter((each) => keys.has(each.key));
  const deep = nesting(frame, scene);
  const pad = 9 + 11 * deep;
  const [left, top] = [Math.min(...inside.map((each) => each.x)), Math.min(...inside.map((each) => each.y))];
  const right = Math.max(...inside.map((each) => each.x + each.w));
  const bottom = Math.max(...inside.map((each) => each.y + each.h));
  Object.assign(frame, { x: left - pad, y: top - 17 - 18 * deep, w: right - left + 2 * pad, h: bottom - top + 17 + 18 * deep + pad });
}

/** How many frames stand in one another in this one. @param {Frame} frame @param {Scene} scene @returns {number} */
function nesting(frame, scene) {
  const keys = new Set(frame.boxes);
  const inner = scene.frames.filter((other) => other.depth > frame.depth && other.boxes.every((key) => keys.has(key)));
  return inner.length ? 1 + Math.max(...inner.map((other) => nesting(other, scene))) : 0;
}

/** Move everything so that it begins at the upper left. @param {Scene} scene @returns {Scene} */
function tight(scene) {
  let [left, top, right, bottom] = [0, 0, scene.width, scene.height];
  const rects = [...scene.boxes, ...scene.frames];
  for (const each of rects) {
    left = Math.min(left, each.x);
    top = Math.min(top, each.y);
    right = Math.max(right, each.x + each.w);
    bottom = Math.max(bottom, each.y + each.h);
  }
  for (const drawn of scene.lines) {
    for (let at = 0; at < drawn.points.length; at += 2) {
      left = Math.min(left, drawn.points[at] - 4);
      right = Math.max(right, drawn.points[at] + 4);
    }
  }
  for (const each of rects) {
    each.x -= left;
    each.y -= top;
  }
  for (const drawn of scene.lines) {
    drawn.points = drawn.points.map((value, at) => value - (at % 2 ? top : left));
    drawn.x -= left;
    drawn.y -= top;
  }
  scene.width = right - left;
  scene.height = bottom - top;
  return scene;
}

/** The lines of an SVG path through these points. @param {number[]} points */
export function path(points) {
  if (points.length < 4) return "";
  const round = points.map((value) => Math.round(value * 10) / 10);
  let text = `M${round[0]},${round[1]}`;
  for (let at = 2; at + 5 < round.length; at += 6) text += `C${round.slice(at, at + 6).join(",")}`;
  return text;
}

/**
 * The key of the box next to another in a direction; one that a line leads to comes first.
 * @param {Scene} scene
 * @param {Placed | undefined} from the first box where there is none
 * @param {"up"|"down"|"left"|"right"} where
 * @returns {string}
 */
export function nextTo(scene, from, where) {
  const closed = scene.boxes.filter((each) => !each.open);
  if (!from) return closed[0]?.key ?? "";
  const [dx, dy] = { up: [0, -1], down: [0, 1], left: [-1, 0], right: [1, 0] }[where];
  const joined = new Set(scene.lines.flatMap((drawn) => (where === "down" && drawn.from === from.key ? [drawn.to] : where === "up" && drawn.to === from.key ? [drawn.from] : [])));
  const cost = (/** @type {Placed} */ each) => {
    const [x, y] = shift(middle(from), middle(each));
    const [ahead, aside] = [dx * x + dy * y, Math.abs(dy * x + dx * y)];
    return ahead <= 1 || (dx && aside > from.h) ? Infinity : ahead + 2 * aside - (joined.has(each.key) ? 1e6 : 0);
  };
  const best = closed.reduce((one, each) => (cost(each) < cost(one) ? each : one), closed[0]);
  return best && cost(best) < Infinity ? best.key : from.key;
}
