// All passes of the run: the loss, and the gradient norm of each leaf, as a heat map; a click shows the pass nearest to it.

import { colors } from "./canvas.js";
import { button, fill, html } from "./dom.js";
import { number } from "./numbers.js";

/** @typedef {import("./data.js").Overview} Overview */

const [LEFT, TOP] = [4, 34]; // pixels beside and above the map: the line of the norm of all stands above

/** The strip of passes. */
export class Passes {
  /** @param {Overview} overview @param {(index: number) => void} go */
  constructor(overview, go) {
    this.overview = overview;
    this.go = go;
    this.canvas = /** @type {HTMLCanvasElement} */ (html("canvas", { role: "img", tabindex: 0, "aria-label": "Gradient norm of each leaf in each pass" }));
    this.told = html("p", { class: "told" });
    this.word = html("span", { class: "where" });
    this.element = html("section", { class: "passes", "aria-label": "Passes" },
      html("header", {}, button("‹", "Previous pass", () => this.step(-1)), this.word, button("›", "Next pass", () => this.step(1)), this.told),
      this.canvas);
    this.now = 0;
    this.canvas.addEventListener("click", (event) => this._click(event));
    this.canvas.addEventListener("pointermove", (event) => this._tell(event));
    new ResizeObserver(() => this.draw()).observe(this.canvas);
  }

  /** Go to another pass that was kept. @param {number} by */
  step(by) {
    const kept = this.overview.passes.map((row) => row.index);
    const at = kept.indexOf(this.now);
    const next = kept[Math.min(kept.length - 1, Math.max(0, at + by))];
    if (next !== undefined && next !== this.now) this.go(next);
  }

  /** @param {number} now */
  show(now) {
    this.now = now;
    const row = this.overview.passes.find((each) => each.index === now);
    fill(this.word, `pass ${now} of ${Math.max(this.overview.made, now)}`);
    const loss = row?.outputs?.[0];
    fill(this.told, loss ? `${loss[0] || "output"} = ${number(loss[1]?.[0]?.values ?? loss[1]?.[0]?.norm)}` : "");
    this.draw();
  }

  /** The number of passes that the map spans. */
  get span() {
    return Math.max(1, this.overview.made);
  }

  draw() {
    const [wide, high] = [this.canvas.clientWidth, this.canvas.clientHeight];
    if (!wide || !high) return;
    const dense = devicePixelRatio || 1;
    this.canvas.width = wide * dense;
    this.canvas.height = high * dense;
    const pen = /** @type {CanvasRenderingContext2D} */ (this.canvas.getContext("2d"));
    pen.scale(dense, dense);
    const look = colors();
    this._map(pen, wide, high, look);
    this._curves(pen, wide, look);
    const kept = new Set(this.overview.passes.map((row) => row.index));
    pen.fillStyle = look.muted;
    for (const index of kept) pen.fillRect(this._x(index, wide), high - 3, Math.max(2, this._column(wide) - 1), 2);
    pen.strokeStyle = look.accent;
    pen.lineWidth = 2;
    pen.strokeRect(this._x(this.now, wide), 1, Math.max(3, this._column(wide)), high - 2);
  }

  /** @param {number} wide */
  _column(wide) {
    return (wide - 2 * LEFT) / this.span;
  }

  /** @param {number} index @param {number} wide */
  _x(index, wide) {
    return LEFT + (index - 1) * this._column(wide);
  }

  /** @param {CanvasRenderingContext2D} pen @param {number} wide @param {number} high @param {Record<string, string>} look */
  _map(pen, wide, high, look) {
    const { series } = this.overview;
    const row = (high - TOP - 5) / Math.max(1, series.length);
    const [low, top] = this._scale();
    const column = Math.max(1, this._column(wide));
    series.forEach((leaf, at) => leaf.passes.forEach((index, i) => {
      const norm = leaf.norms[i];
      const part = norm ? (Math.log10(norm) - low) / Math.max(1e-9, top - low) : 0;
      pen.fillStyle = !leaf.reached[i] ? look.edge : norm === null ? look.nan : norm === 0 ? look.zero : look[`fill${Math.min(4, Math.max(0, Math.floor(part * 5)))}`];
      const y = TOP + at * row;
      if (leaf.reached[i]) pen.fillRect(this._x(index, wide), y, column, Math.max(1, row - (row > 4 ? 1 : 0)));
      else pen.fillRect(this._x(index, wide), y + row / 2, column, 1);
    }));
  }

  /** The logarithms of the smallest and the largest norm. */
  _scale() {
    let [low, high] = [Infinity, -Infinity];
    for (const leaf of this.overview.series) {
      for (const norm of leaf.norms) {
        if (!norm) continue;
        low = Math.min(low, Math.log10(norm));
        high = Math.max(high, Math.log10(norm));
      }
    }
    return low > high ? [0, 1] : high - low < 1 ? [low - 0.5, high + 0.5] : [low, high];
  }

  /** The norm of all gradients and the loss as lines, each on a scale of its own. @param {CanvasRenderingContext2D} pen @param {number} wide @param {Record<string, string>} look */
  _curves(pen, wide, look) {
    const squares = new Map();
    for (const leaf of this.overview.series) leaf.passes.forEach((index, i) => squares.set(index, (squares.get(index) ?? 0) + (leaf.norms[i] ?? 0) ** 2));
    const norms = [...squares].sort((a, b) => a[0] - b[0]).map(([index, square]) => [index, Math.log10(Math.sqrt(square) || 1e-30)]);
    const losses = this.overview.passes.flatMap((row) => {
      const value = row.outputs?.[0]?.[1]?.[0]?.values;
      return typeof value === "number" ? [[row.index, value]] : [];
    });
    this._curve(pen, norms, wide, look.accent);
    pen.setLineDash([4, 3]);
    this._curve(pen, losses, wide, look.output);
    pen.setLineDash([]);
    pen.font = "10px sans-serif";
    pen.fillStyle = look.accent;
    pen.fillText("norm of all", LEFT + 2, 10);
    pen.fillStyle = look.output;
    if (losses.length) pen.fillText("loss", LEFT + 66, 10);
  }

  /** @param {CanvasRenderingContext2D} pen @param {number[][]} points @param {number} wide @param {string} color */
  _curve(pen, points, wide, color) {
    if (!points.length) return;
    const values = points.map((point) => point[1]).filter((value) => value > -29);
    const [low, high] = [Math.min(...values), Math.max(...values)];
    pen.strokeStyle = color;
    pen.lineWidth = 1.5;
    pen.beginPath();
    points.forEach(([index, value], at) => {
      const y = TOP - 4 - ((Math.max(value, low) - low) / Math.max(1e-9, high - low)) * (TOP - 18);
      const x = this._x(index, wide) + this._column(wide) / 2;
      if (at) pen.lineTo(x, y);
      else pen.moveTo(x, y);
    });
    pen.stroke();
  }

  /** The pass and the leaf at a pointer. @param {MouseEvent} event */
  _at(event) {
    const place = this.canvas.getBoundingClientRect();
    const index = Math.min(this.span, Math.max(1, 1 + Math.floor((event.clientX - place.left - LEFT) / this._column(place.width))));
    const { series } = this.overview;
    const at = Math.floor(((event.clientY - place.top - TOP) / (place.height - TOP - 5)) * series.length);
    return { index, leaf: series[at] };
  }

  /** @param {MouseEvent} event */
  _click(event) {
    const { index } = this._at(event);
    const kept = this.overview.passes.map((row) => row.index);
    if (kept.length) this.go(kept.reduce((best, each) => (Math.abs(each - index) < Math.abs(best - index) ? each : best)));
  }

  /** @param {MouseEvent} event */
  _tell(event) {
    const { index, leaf } = this._at(event);
    const i = leaf ? leaf.passes.indexOf(index) : -1;
    const value = !leaf || i < 0 ? "" : !leaf.reached[i] ? "not reached" : leaf.norms[i] === null ? "not finite" : `‖${number(leaf.norms[i])}‖`;
    fill(this.told, leaf ? `pass ${index} · ${leaf.name || "unnamed leaf"} ${value}` : `pass ${index}`);
  }
}
