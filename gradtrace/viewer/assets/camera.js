// Where the reader stands: pan with a drag, zoom to the pointer with the wheel or two fingers, fit, follow.

import { still } from "./dom.js";

const [LEAST, MOST] = [0.02, 4];
const LEGIBLE = 0.5; // scale at which cards can still be read
const CLICK = 5; // pixels that a pointer may move in a click

/** The place and scale of a scene on the screen: a point p of it is at scale * p + (x, y). */
export class Camera {
  /**
   * @param {HTMLElement} element what is looked at
   * @param {() => void} moved is called when a new frame is to be drawn
   * @param {(event: PointerEvent) => void} clicked
   */
  constructor(element, moved, clicked) {
    this.element = element;
    this.x = 0;
    this.y = 0;
    this.scale = 1;
    this._moved = moved;
    this._clicked = clicked;
    this._fingers = /** @type {Map<number, {x: number, y: number}>} */ (new Map());
    this._asked = false;
    this._travel = 0;
    this.moves = 0;
    this.untouched = true;
    element.addEventListener("wheel", (event) => this._wheel(event), { passive: false });
    element.addEventListener("pointerdown", (event) => this._down(event));
    element.addEventListener("pointermove", (event) => this._drag(event));
    for (const name of ["pointerup", "pointercancel"]) element.addEventListener(name, (event) => this._up(/** @type {PointerEvent} */ (event)));
  }

  /** The size of what is looked through. */
  get size() {
    return { width: this.element.clientWidth, height: this.element.clientHeight };
  }

  /** Draw once before the next frame, however often it is asked for. */
  redraw() {
    if (this._asked) return;
    this._asked = true;
    requestAnimationFrame(() => {
      this._asked = false;
      this._moved();
    });
  }

  /** @param {number} dx @param {number} dy */
  pan(dx, dy) {
    this.moves += 1;
    this.untouched = false;
    this.x += dx;
    this.y += dy;
    this.redraw();
  }

  /** Zoom by a factor, a point of the element staying where it is. @param {number} factor @param {number} [px] @param {number} [py] */
  zoom(factor, px = this.size.width / 2, py = this.size.height / 2) {
    const scale = Math.min(MOST, Math.max(LEAST, this.scale * factor));
    const by = scale / this.scale;
    this.moves += 1;
    this.untouched = false;
    [this.x, this.y, this.scale] = [px - by * (px - this.x), py - by * (py - this.y), scale];
    this.redraw();
  }

  /**
   * Show all of a scene; where that would be too small to read, its upper part, around a point of it.
   * @param {{width: number, height: number}} scene
   * @param {boolean} [whole]
   * @param {number} [around]
   */
  fit(scene, whole = true, around = scene.width / 2) {
    const { width, height } = this.size;
    if (!width || !height) return;
    const pad = Math.min(24, width / 20);
    const across = (width - 2 * pad) / Math.max(1, scene.width);
    const down = (height - 2 * pad) / Math.max(1, scene.height);
    const small = Math.min(across, down);
    const scale = Math.min(1.25, whole || small >= LEGIBLE ? small : Math.max(small, Math.min(0.75, Math.max(across, 0.45))));
    const top = scale * scene.height > height ? pad : (height - scale * scene.height) / 2;
    const fits = scale * scene.width <= width;
    this.go(fits ? (width - scale * scene.width) / 2 : width / 2 - scale * around, top, scale);
    this.untouched = true;
  }

  /** Bring a rectangle of the scene into the middle. @param {{x: number, y: number, w: number, h: number}} rect @param {boolean} [always] also where it is seen already */
  show(rect, always = false) {
    const { width, height } = this.size;
    const scale = Math.max(this.scale, 0.55);
    const seen = this.x + this.scale * rect.x >= 0 && this.x + this.scale * (rect.x + rect.w) <= width
      && this.y + this.scale * rect.y >= 0 && this.y + this.scale * (rect.y + rect.h) <= height;
    if (seen && !always && this.scale > 0.3) return;
    this.go(width / 2 - scale * (rect.x + rect.w / 2), height / 2 - scale * (rect.y + Math.min(rect.h, height / scale) / 2), scale);
  }

  /** Go there, smoothly unless the reader asked for less motion. @param {number} x @param {number} y @param {number} scale @param {boolean} [smooth] */
  go(x, y, scale, smooth = true) {
    const start = [this.x, this.y, this.scale];
    this.untouched = false;
    const move = ++this.moves;
    if (!smooth || still() || !Number.isFinite(start[0]) || document.hidden) {
      [this.x, this.y, this.scale] = [x, y, scale];
      this.redraw();
      return;
    }
    const began = performance.now();
    const next = () => {
      if (move !== this.moves) return;
      const part = Math.min(1, (performance.now() - began) / 180);
      const eased = 1 - (1 - part) ** 3;
      [this.x, this.y, this.scale] = [x, y, scale].map((end, at) => start[at] + (end - start[at]) * eased);
      this._moved();
      if (part < 1) requestAnimationFrame(next);
    };
    next();
  }

  /** The point of the scene at a pointer. @param {{clientX: number, clientY: number}} event */
  point(event) {
    const place = this.element.getBoundingClientRect();
    return [(event.clientX - place.left - this.x) / this.scale, (event.clientY - place.top - this.y) / this.scale];
  }

  /** @param {WheelEvent} event */
  _wheel(event) {
    event.preventDefault();
    const place = this.element.getBoundingClientRect();
    const unit = event.deltaMode === 1 ? 16 : 1;
    if (event.shiftKey) return this.pan(-(event.deltaY || event.deltaX) * unit, 0);
    if (!event.ctrlKey && Math.abs(event.deltaX) > Math.abs(event.deltaY)) return this.pan(-event.deltaX * unit, 0);
    const factor = Math.exp(-event.deltaY * unit * (event.ctrlKey ? 0.01 : 0.0015));
    return this.zoom(factor, event.clientX - place.left, event.clientY - place.top);
  }

  /** @param {PointerEvent} event */
  _down(event) {
    if (event.button > 1 || /** @type {Element} */ (event.target).closest("button, a, input")) return;
    this._fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    if (this._fingers.size === 1) this._travel = 0;
  }

  /** @param {PointerEvent} event */
  _drag(event) {
    const last = this._fingers.get(event.pointerId);
    if (!last) return;
    const [dx, dy] = [event.clientX - last.x, event.clientY - last.y];
    this._travel += Math.abs(dx) + Math.abs(dy);
    if (this._travel < CLICK && this._fingers.size === 1) return;
    if (!this.element.hasPointerCapture(event.pointerId)) this.element.setPointerCapture(event.pointerId);
    const others = [...this._fingers].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
    this._fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    if (!others.length) return void this.pan(dx, dy);
    const place = this.element.getBoundingClientRect();
    const [before, after] = [last, event].map((p) => Math.hypot(("clientX" in p ? p.clientX : p.x) - others[0].x, ("clientY" in p ? p.clientY : p.y) - others[0].y));
    this.pan(dx / 2, dy / 2);
    if (before > 0) this.zoom(after / before, (event.clientX + others[0].x) / 2 - place.left, (event.clientY + others[0].y) / 2 - place.top);
  }

  /** @param {PointerEvent} event */
  _up(event) {
    if (!this._fingers.delete(event.pointerId)) return;
    if (event.type === "pointerup" && this._travel < CLICK && !this._fingers.size) this._clicked(event);
  }
}
