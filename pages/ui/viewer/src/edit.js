// Corners of a region under the mouse: drag one, drag an edge to make one, Delete takes one away.

import { crossesItself, ringArea } from './geometry.js';

const CORNER_PX = 9;
const EDGE_PX = 6;
const LEAST_AREA_UM2 = 1;
const SVG = 'http://www.w3.org/2000/svg';

const distanceTo = ([x, y], [ax, ay], [bx, by]) => {
  const [dx, dy] = [bx - ax, by - ay];
  const t = Math.min(1, Math.max(0, ((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy || 1)));
  return Math.hypot(x - ax - t * dx, y - ay - t * dy);
};

const same = (a, b) => a.length === b.length && a.every(([x, y], i) => x === b[i][0] && y === b[i][1]);

export class Corners {
  /**
   * @param box    element that receives the pointer
   * @param group  SVG group for the handles
   * @param hooks  at(event) px, toPx(um), toUm(px), onCanvas(event), onShape(ring um), onRefused(sentence)
   */
  constructor(box, group, hooks) {
    Object.assign(this, { group, hooks, ring: null, held: -1, chosen: -1 });
    const listen = (type, handler) => box.addEventListener(type, (event) => {
      if (this.ring && (this.held >= 0 || hooks.onCanvas(event))) handler(event);
    }, true);
    listen('pointerdown', (event) => this.down(event, box));
    listen('pointermove', (event) => this.move(event));
    listen('pointerup', (event) => this.up(event));
    listen('pointercancel', () => this.open(this.before));
  }

  /** Show the handles of a ring (um), or none with null. */
  open(ring) {
    this.ring = ring?.map((point) => [...point]) ?? null;
    this.before = ring;
    this.held = -1;
    this.chosen = -1;
    this.trace();
  }

  down(event, box) {
    if (event.button !== 0) return;
    const at = this.hooks.at(event);
    const px = this.ring.map(this.hooks.toPx);
    let index = px.findIndex(([x, y]) => Math.hypot(x - at[0], y - at[1]) <= CORNER_PX);
    if (index < 0) {
      const edge = px.findIndex((point, i) => distanceTo(at, point, px[(i + 1) % px.length]) <= EDGE_PX);
      if (edge < 0) {
        this.chosen = -1;
        this.trace();
        return; // Beside the outline the mouse moves the view, as ever.
      }
      index = edge + 1;
      this.ring.splice(index, 0, this.hooks.toUm(at));
    }
    event.stopPropagation();
    box.setPointerCapture?.(event.pointerId);
    this.held = index;
    this.chosen = index;
    this.trace();
  }

  move(event) {
    if (this.held < 0) return;
    event.stopPropagation();
    this.ring[this.held] = this.hooks.toUm(this.hooks.at(event));
    this.trace();
  }

  up(event) {
    if (this.held < 0) return;
    event.stopPropagation();
    this.held = -1;
    this.settle();
  }

  /** Take the corner away that was touched last; false if there is none. */
  remove() {
    if (!this.ring || this.chosen < 0) return false;
    if (this.ring.length < 4) {
      this.hooks.onRefused('A region needs at least three corners.');
      return true;
    }
    this.ring.splice(this.chosen, 1);
    this.chosen = -1;
    this.settle();
    return true;
  }

  settle() {
    if (same(this.ring, this.before)) return;
    if (crossesItself(this.ring) || ringArea(this.ring) < LEAST_AREA_UM2) {
      this.hooks.onRefused('The outline would cross itself: the corner stays where it was.');
      this.open(this.before);
    } else {
      this.hooks.onShape(this.ring);
    }
  }

  /** Draw the handles where the view has them now. */
  trace() {
    const ring = this.ring ?? [];
    const px = ring.map(this.hooks.toPx);
    while (this.group.childElementCount > ring.length + 1) this.group.lastChild.remove();
    if (!ring.length) {
      this.group.replaceChildren();
      return;
    }
    if (!this.group.firstChild) {
      const outline = document.createElementNS(SVG, 'path');
      outline.setAttribute('class', 'draft');
      this.group.append(outline);
    }
    this.group.firstChild.setAttribute('d', `M${px.map((point) => point.join(' ')).join('L')}Z`);
    px.forEach(([x, y], i) => {
      let handle = this.group.children[i + 1];
      if (!handle) {
        handle = document.createElementNS(SVG, 'circle');
        this.group.append(handle);
      }
      handle.setAttribute('class', i === this.chosen ? 'corner chosen' : 'corner');
      Object.entries({ cx: x, cy: y, r: ring.length > 80 ? 3 : 4.5 }).forEach(([key, value]) => handle.setAttribute(key, value));
    });
  }
}
