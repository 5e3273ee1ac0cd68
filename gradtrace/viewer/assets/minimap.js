// A small picture of the whole with the part that is seen; there when the whole is larger than the screen.

import { html } from "./dom.js";
import { colors } from "./canvas.js";

const [WIDE, HIGH] = [150, 190];

/** The minimap of a graph; a click or a drag goes there. */
export class Minimap {
  /** @param {import("./graph.js").Graph} graph */
  constructor(graph) {
    this.graph = graph;
    this.canvas = /** @type {HTMLCanvasElement} */ (html("canvas", { class: "minimap", "aria-hidden": "true", width: 2 * WIDE, height: 2 * HIGH }));
    this._drawn = /** @type {any} */ (null);
    this._colors = /** @type {Record<string, string>} */ ({});
    this._base = document.createElement("canvas");
    const go = (/** @type {PointerEvent} */ event) => event.buttons && this._go(event);
    this.canvas.addEventListener("pointerdown", (event) => {
      event.stopPropagation();
      this.canvas.setPointerCapture(event.pointerId);
      this._go(event);
    });
    this.canvas.addEventListener("pointermove", go);
    graph.element.append(this.canvas);
  }

  get scale() {
    const scene = this.graph.scene;
    return scene ? Math.min(WIDE / scene.width, HIGH / scene.height) : 1;
  }

  /** Draw where the reader is. */
  update() {
    const { scene, camera } = this.graph;
    if (!scene) return;
    const { width, height } = camera.size;
    const larger = scene.width * camera.scale > width * 1.02 || scene.height * camera.scale > height * 1.02;
    this.canvas.toggleAttribute("hidden", !larger);
    if (!larger) return;
    if (this._drawn !== scene) this._paint(scene);
    const pen = /** @type {CanvasRenderingContext2D} */ (this.canvas.getContext("2d"));
    const scale = this.scale;
    this.canvas.style.width = `${scene.width * scale}px`;
    this.canvas.style.height = `${scene.height * scale}px`;
    pen.clearRect(0, 0, this.canvas.width, this.canvas.height);
    pen.drawImage(this._base, 0, 0);
    pen.strokeStyle = this._colors.accent;
    pen.lineWidth = 3;
    const factor = (2 * scale) / camera.scale;
    pen.strokeRect(-camera.x * factor, -camera.y * factor, width * factor, height * factor);
  }

  /** @param {import("./scene.js").Scene} scene */
  _paint(scene) {
    this._drawn = scene;
    this._colors = colors();
    const scale = 2 * this.scale;
    this.canvas.width = this._base.width = Math.max(1, Math.ceil(scene.width * scale));
    this.canvas.height = this._base.height = Math.max(1, Math.ceil(scene.height * scale));
    const pen = /** @type {CanvasRenderingContext2D} */ (this._base.getContext("2d"));
    for (const each of scene.boxes) {
      if (each.open) continue;
      const chip = each.box.rows.find((row) => row[0] === "gradient");
      const name = !chip ? "edge" : chip[2] === "finite" ? `fill${Math.min(4, Math.floor(chip[3] * 5))}` : chip[2];
      pen.fillStyle = this._colors[name] ?? this._colors.edge;
      pen.fillRect(each.x * scale, each.y * scale, Math.max(2, each.w * scale), Math.max(2, each.h * scale));
    }
  }

  /** @param {PointerEvent} event */
  _go(event) {
    const place = this.canvas.getBoundingClientRect();
    const { camera } = this.graph;
    const [x, y] = [(event.clientX - place.left) / this.scale, (event.clientY - place.top) / this.scale];
    camera.go(camera.size.width / 2 - x * camera.scale, camera.size.height / 2 - y * camera.scale, camera.scale, false);
    camera.untouched = false;
  }
}
