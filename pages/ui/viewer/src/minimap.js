// The whole slide in a corner, with a frame around what is seen; a click or a drag moves the view.

import { h } from './dom.js';

const LONGEST_PX = 148;
const MOST_CELLS = 60_000;
/** Hidden while the view shows about the whole slide anyway. */
const WHOLE = 0.9;

export class Minimap {
  /** `go([x, y])` moves the middle of the view to a place in um. */
  constructor(go) {
    this.go = go;
    this.canvas = h('canvas', {});
    this.frame = h('div', { class: 'frame' });
    this.element = h('div', { class: 'minimap', role: 'img', 'aria-label': 'Overview of the slide: the frame is what is seen', hidden: true,
      onpointerdown: (event) => this.point(event, true), onpointermove: (event) => this.point(event, false) }, this.canvas, this.frame);
    this.on = true;
  }

  open([x0, y0, x1, y1]) {
    this.bounds = [x0, y0, x1, y1];
    this.scale = LONGEST_PX / Math.max(1, x1 - x0, y1 - y0);
    const [width, height] = [Math.max(24, (x1 - x0) * this.scale), Math.max(24, (y1 - y0) * this.scale)];
    const ratio = globalThis.devicePixelRatio || 1;
    [this.canvas.width, this.canvas.height] = [Math.round(width * ratio), Math.round(height * ratio)];
    Object.assign(this.element.style, { width: `${width}px`, height: `${height}px` });
  }

  /** Dots of the cells in the colours of the picture. */
  paint({ xy, n }, rgba) {
    if (!this.bounds) return;
    const { width, height } = this.canvas;
    const [x0, y0] = this.bounds;
    const scale = this.scale * (globalThis.devicePixelRatio || 1);
    const image = new ImageData(width, height);
    const step = Math.max(1, Math.ceil(n / MOST_CELLS));
    for (let i = 0; i < n; i += step) {
      const x = Math.min(width - 1, Math.max(0, Math.floor((xy[2 * i] - x0) * scale)));
      const y = Math.min(height - 1, Math.max(0, Math.floor((xy[2 * i + 1] - y0) * scale)));
      const at = 4 * (y * width + x);
      if (rgba[4 * i + 3] < image.data[at + 3]) continue; // the clearest cell of a pixel is seen
      for (let k = 0; k < 4; k += 1) image.data[at + k] = rgba[4 * i + k];
    }
    this.canvas.getContext('2d').putImageData(image, 0, 0);
  }

  /** Follow the view; `window` is what is seen, um: [x0, y0, x1, y1]. */
  follow(window) {
    if (!this.bounds) return;
    const [x0, y0, x1, y1] = this.bounds;
    const clip = (v, low, high) => Math.min(high, Math.max(low, v));
    const [left, right] = [clip(window[0], x0, x1), clip(window[2], x0, x1)];
    const [top, bottom] = [clip(window[1], y0, y1), clip(window[3], y0, y1)];
    const seen = ((right - left) * (bottom - top)) / Math.max(1, (x1 - x0) * (y1 - y0));
    this.element.hidden = !this.on || seen > WHOLE;
    Object.assign(this.frame.style, {
      left: `${(left - x0) * this.scale}px`, top: `${(top - y0) * this.scale}px`,
      width: `${Math.max(4, (right - left) * this.scale)}px`, height: `${Math.max(4, (bottom - top) * this.scale)}px`,
    });
  }

  point(event, down) {
    event.stopPropagation();
    if (!down && !(event.buttons & 1)) return;
    if (down) this.element.setPointerCapture?.(event.pointerId);
    const at = this.element.getBoundingClientRect();
    this.go([this.bounds[0] + (event.clientX - at.left) / this.scale, this.bounds[1] + (event.clientY - at.top) / this.scale]);
  }
}
