// A scene on a canvas: for more boxes than SVG moves smoothly. Only what is on the screen is drawn.

import { tint } from "./numbers.js";
import { HEADER, path } from "./scene.js";

/**
 * @typedef {import("./scene.js").Scene} Scene
 * @typedef {{dim: (key: string) => boolean, chosen: (key: string) => boolean, lineDim: (at: number) => boolean, hidden: boolean}} Look
 */

const NAMES = ["ink", "muted", "card", "edge", "page", "leaf", "output", "accent", "error", "warning", "info", "none", "zero", "unknown", "inf", "nan",
  ...[0, 1, 2, 3, 4].flatMap((step) => [`fill${step}`, `line${step}`])];
const TEXT = 0.35; // zoom below which text is left off
const FONT = '"Liberation Sans", Arial, Helvetica, sans-serif';

/** The colours of the page as the browser sees them now. @returns {Record<string, string>} */
export function colors() {
  const probe = document.body.appendChild(document.createElement("i"));
  const found = /** @type {Record<string, string>} */ ({});
  for (const name of NAMES) {
    probe.style.color = `var(--${name})`;
    found[name] = getComputedStyle(probe).color;
  }
  probe.remove();
  return found;
}

/** Draws one scene, again and again, as the camera moves. */
export class Painter {
  /** @param {HTMLCanvasElement} canvas @param {Scene} scene @param {Record<string, [number, number, string]>} metrics */
  constructor(canvas, scene, metrics) {
    this.canvas = canvas;
    this.scene = scene;
    this.metrics = metrics;
    this.colors = colors();
    this._paths = scene.lines.map((drawn) => new Path2D(path(drawn.points)));
    this._bounds = scene.lines.map((drawn) => bounds(drawn.points));
  }

  /** @param {import("./camera.js").Camera} camera @param {Look} look */
  draw(camera, look) {
    const { width, height } = camera.size;
    const dense = devicePixelRatio || 1;
    if (this.canvas.width !== Math.round(width * dense) || this.canvas.height !== Math.round(height * dense)) {
      this.canvas.width = Math.round(width * dense);
      this.canvas.height = Math.round(height * dense);
    }
    const pen = /** @type {CanvasRenderingContext2D} */ (this.canvas.getContext("2d"));
    pen.setTransform(dense, 0, 0, dense, 0, 0);
    pen.clearRect(0, 0, width, height);
    pen.translate(camera.x, camera.y);
    pen.scale(camera.scale, camera.scale);
    const seen = { x: -camera.x / camera.scale, y: -camera.y / camera.scale, w: width / camera.scale, h: height / camera.scale };
    this._backdrops(pen, seen);
    this._lines(pen, seen, look, camera.scale);
    this._boxes(pen, seen, look, camera.scale);
    pen.globalAlpha = 1;
  }

  /** @param {CanvasRenderingContext2D} pen @param {import("./scene.js").Rect} seen */
  _backdrops(pen, seen) {
    pen.lineWidth = 1;
    for (const each of [...this.scene.boxes.filter((box) => box.open), ...this.scene.frames]) {
      if (!meet(each, seen)) continue;
      pen.strokeStyle = this.colors.edge;
      pen.strokeRect(each.x, each.y, each.w, each.h);
      pen.fillStyle = this.colors.muted;
      pen.font = `11px ${FONT}`;
      pen.textAlign = "left";
      pen.fillText("label" in each ? each.label : `− ${each.box.rows[0]?.[1] ?? each.key}`, each.x + 8, each.y + ("label" in each ? 12 : HEADER / 2 + 4));
    }
  }

  /** @param {CanvasRenderingContext2D} pen @param {import("./scene.js").Rect} seen @param {Look} look @param {number} scale */
  _lines(pen, seen, look, scale) {
    this.scene.lines.forEach((drawn, at) => {
      if (!meet(this._bounds[at], seen)) return;
      const { kind, share } = drawn.line;
      pen.globalAlpha = look.lineDim(at) ? 0.12 : 1;
      pen.strokeStyle = this.colors[kind === "finite" ? `line${tint(kind, share).slice(4)}` : kind] ?? this.colors.unknown;
      pen.lineWidth = Math.max(kind === "finite" ? 1 + 3.6 * share : 2, 0.6 / scale);
      pen.setLineDash(kind === "none" ? [6, 4] : kind === "zero" ? [2, 3] : []);
      pen.stroke(this._paths[at]);
      pen.setLineDash([]);
      if (scale > 0.55 && drawn.line.text && drawn.line.label && !look.hidden) {
        pen.fillStyle = this.colors.ink;
        pen.font = `11px ${FONT}`;
        pen.textAlign = "center";
        pen.fillText(drawn.line.text, drawn.x, drawn.y + 4);
      }
    });
  }

  /** @param {CanvasRenderingContext2D} pen @param {import("./scene.js").Rect} seen @param {Look} look @param {number} scale */
  _boxes(pen, seen, look, scale) {
    for (const each of this.scene.boxes) {
      if (each.open || !meet(each, seen)) continue;
      pen.globalAlpha = look.dim(each.key) ? 0.2 : 1;
      pen.fillStyle = this.colors.card;
      pen.fillRect(each.x, each.y, each.w, each.h);
      const chosen = look.chosen(each.key);
      pen.strokeStyle = chosen ? this.colors.accent : this.colors[each.box.kind === "leaf" || each.box.kind === "output" ? each.box.kind : "edge"];
      pen.lineWidth = chosen ? 4 : 1.2;
      pen.strokeRect(each.x, each.y, each.w, each.h);
      this._rows(pen, each, scale, look.hidden);
    }
  }

  /** @param {CanvasRenderingContext2D} pen @param {import("./scene.js").Placed} each @param {number} scale @param {boolean} hidden */
  _rows(pen, each, scale, hidden) {
    let y = each.y + 4;
    for (const row of each.box.rows) {
      const [height, size, weight] = this.metrics[row[0]];
      const chip = row[0] === "gradient" || row[0] === "leaf";
      if (chip || row[0] === "finding") {
        pen.fillStyle = this.colors[chip ? (row[2] === "finite" ? `fill${tint(row[2], row[3]).slice(4)}` : row[2]) : row[2]] ?? this.colors.unknown;
        pen.fillRect(each.x + 6, y + 1, each.w - 12, height - 3);
      }
      if (scale >= TEXT && !(hidden && (chip || row[0] === "value"))) {
        const solid = (chip && row[2] !== "finite") || row[0] === "finding";
        pen.fillStyle = solid ? this.colors.page : row[0] === "small" ? this.colors.muted : this.colors.ink;
        pen.font = `${weight === "bold" ? "bold " : ""}${size}px ${weight === "mono" ? '"Liberation Mono", monospace' : FONT}`;
        pen.textAlign = "center";
        pen.fillText(row[0] === "leaf" ? `${row[1]}  ${row[4]}` : row[1], each.x + each.w / 2, y + height - 5);
      }
      y += height;
    }
  }
}

/** @param {import("./scene.js").Rect} a @param {import("./scene.js").Rect} b */
function meet(a, b) {
  return a.x < b.x + b.w && b.x < a.x + a.w && a.y < b.y + b.h && b.y < a.y + a.h;
}

/** @param {number[]} points @returns {import("./scene.js").Rect} */
function bounds(points) {
  let [left, top, right, bottom] = [Infinity, Infinity, -Infinity, -Infinity];
  for (let at = 0; at < points.length; at += 2) {
    left = Math.min(left, points[at]);
    right = Math.max(right, points[at]);
    top = Math.min(top, points[at + 1]);
    bottom = Math.max(bottom, points[at + 1]);
  }
  return { x: left - 30, y: top - 8, w: right - left + 60, h: bottom - top + 16 };
}
