// Drawing tools: pointer to outline. Everything here is in screen pixels until an outline is done.

import { crossesItself, ringArea, simplify, trimOvershoot } from './geometry.js';

const MOST_VERTICES = 500;
const CLOSE_PX = 9;
const LEAST_AREA_PX = 30;
export const DRAWING = new Set(['lasso', 'polygon', 'rectangle']);

/** Turns pointer events on the canvas into outlines. */
export class DrawingTools {
  /**
   * @param box      element that receives the pointer
   * @param sketch   SVG path that shows the outline being drawn
   * @param hooks    onOutline(points), onRefused(sentence), onChange()
   */
  constructor(box, sketch, hooks) {
    this.box = box;
    this.sketch = sketch;
    this.hooks = hooks;
    this.tool = 'pan';
    this.points = [];
    this.cursor = null;
    this.dragging = false;
    const listen = (type, handler) => box.addEventListener(type, (event) => {
      if (DRAWING.has(this.tool) && (this.dragging || this.onCanvas(event))) handler(event);
    }, true);
    listen('pointerdown', (event) => this.down(event));
    listen('pointermove', (event) => this.move(event));
    listen('pointerup', (event) => this.up(event));
    listen('pointercancel', () => this.reset());
    listen('dblclick', (event) => {
      event.stopPropagation();
      if (this.tool === 'polygon') this.finish();
    });
  }

  onCanvas(event) {
    return event.composedPath()[0].tagName === 'CANVAS';
  }

  at(event) {
    const frame = this.box.getBoundingClientRect();
    return [event.clientX - frame.left, event.clientY - frame.top];
  }

  use(tool) {
    this.tool = tool;
    this.reset();
  }

  get busy() {
    return this.points.length > 0;
  }

  reset() {
    this.points = [];
    this.cursor = null;
    this.dragging = false;
    this.trace();
  }

  down(event) {
    if (event.button !== 0) return;
    event.stopPropagation();
    const point = this.at(event);
    if (this.tool === 'polygon') {
      if (this.points.length > 2 && this.near(point, this.points[0])) {
        this.finish();
        return;
      }
      // The second click of a double click lands on the vertex of the first.
      const last = this.points[this.points.length - 1];
      if (!last || !this.near(point, last, 2)) this.points.push(point);
    } else {
      this.points = [point];
      this.dragging = true;
      this.box.setPointerCapture?.(event.pointerId);
    }
    this.trace();
  }

  move(event) {
    const point = this.at(event);
    this.cursor = point;
    if (this.tool === 'polygon') {
      this.trace();
      return;
    }
    if (!this.dragging) return;
    event.stopPropagation();
    if (this.tool === 'lasso') {
      if (!this.near(point, this.points[this.points.length - 1], 2)) this.points.push(point);
    } else {
      const [[x0, y0]] = this.points;
      const [x1, y1] = point;
      this.points = [[x0, y0], [x1, y0], [x1, y1], [x0, y1]];
    }
    this.trace();
  }

  up(event) {
    if (!this.dragging) return;
    event.stopPropagation();
    this.dragging = false;
    this.finish();
  }

  near([x, y], [u, v], distance = CLOSE_PX) {
    return Math.hypot(x - u, y - v) <= distance;
  }

  /** Take the last corner of a polygon back; false if there is none. */
  back() {
    if (this.tool !== 'polygon' || !this.points.length) return false;
    this.points.pop();
    this.trace();
    return true;
  }

  finish() {
    let outline = this.points;
    this.reset();
    if (this.tool === 'lasso' && outline.length > 3) {
      outline = simplify(trimOvershoot(outline), 0.6, MOST_VERTICES);
    }
    if (outline.length < 3 || ringArea(outline) < LEAST_AREA_PX) {
      this.hooks.onRefused(this.tool === 'polygon'
        ? 'A polygon needs at least three corners. Click to set them, double-click to close.'
        : 'Hold the mouse button and drag around the tissue.');
    } else if (crossesItself(outline)) {
      this.hooks.onRefused('The outline crosses itself. Draw it again as one simple loop.');
    } else {
      this.hooks.onOutline(outline);
    }
  }

  trace() {
    const shown = this.tool === 'polygon' && this.cursor && this.points.length ? [...this.points, this.cursor] : this.points;
    this.sketch.setAttribute('d', shown.length > 1 ? `M${shown.map((p) => p.join(' ')).join('L')}${this.tool === 'polygon' ? '' : 'Z'}` : '');
    this.hooks.onChange(this.tool === 'polygon' ? this.points : []);
  }
}
