// Alignment check: the image on one side of a line and the cells on the other, or one after the other.

import { LayerExtension } from '@deck.gl/core';

import { h } from './dom.js';

const BLINK_MS = 650;
const STEP = 0.02;
const ORDER = ['off', 'swipe', 'blink'];
/** Always the same list: another one would make deck build all tiles anew at each frame. */
const WHOLE = [];

const BLOCK = 'layout(std140) uniform curtainUniforms {\n  float edge;\n  float side;\n} curtain;\n';
const curtain = { name: 'curtain', fs: BLOCK, uniformTypes: { edge: 'f32', side: 'f32' } };

/** Draws a layer on one side of a line of the screen: opts {at: {share}, side: -1 left | 1 right}. */
export class Curtain extends LayerExtension {
  getShaders() {
    return { modules: [curtain], inject: { 'fs:DECKGL_FILTER_COLOR': 'if ((gl_FragCoord.x - curtain.edge) * curtain.side < 0.0) discard;' } };
  }

  draw(_, { opts: { at, side } }) {
    // Read at each frame: moving the line changes no layer.
    this.setShaderModuleProps({ curtain: { edge: at.share * this.context.gl.drawingBufferWidth, side } });
  }
}
Curtain.extensionName = 'Curtain';

/** The line that is dragged, and what is shown of image and cells now. */
export class AlignmentCheck {
  /** hooks: onChange() when layers differ, onMove() when only the line moved */
  constructor(hooks) {
    this.hooks = hooks;
    this.at = { share: 0.5 };
    this.mode = 'off';
    this.showsImage = true;
    this.left = [new Curtain({ at: this.at, side: -1 })];
    this.right = [new Curtain({ at: this.at, side: 1 })];
    this.element = h('div', {
      class: 'curtain', role: 'slider', tabindex: '0', hidden: true, 'aria-label': 'Line between image and cells', 'aria-orientation': 'horizontal', 'aria-valuemin': '0', 'aria-valuemax': '100',
      onpointerdown: (event) => this.hold(event), onpointermove: (event) => this.drag(event), onpointerup: () => { this.held = false; }, onpointercancel: () => { this.held = false; },
      onkeydown: (event) => this.key(event),
    });
    this.place(0.5);
  }

  get names() {
    return { off: '', swipe: 'Image left, cells right: drag the line · A blinks', blink: 'Image and cells in turn · A ends' };
  }

  next() {
    this.use(ORDER[(ORDER.indexOf(this.mode) + 1) % ORDER.length]);
  }

  use(mode) {
    this.mode = mode;
    this.element.hidden = mode !== 'swipe';
    this.showsImage = true;
    clearInterval(this.timer);
    if (mode === 'blink') {
      this.timer = setInterval(() => {
        this.showsImage = !this.showsImage;
        this.hooks.onChange();
      }, BLINK_MS);
    }
    this.hooks.onChange();
  }

  /** What is drawn now: {image, cells}: shown or not; {left, right}: what image and cells are cut by. */
  get layers() {
    if (this.mode === 'blink') return { image: this.showsImage, cells: !this.showsImage, left: WHOLE, right: WHOLE };
    return { image: true, cells: true, ...(this.mode === 'swipe' ? { left: this.left, right: this.right } : { left: WHOLE, right: WHOLE }) };
  }

  place(share) {
    this.at.share = Math.min(1, Math.max(0, share));
    this.element.style.left = `${100 * this.at.share}%`;
    this.element.setAttribute('aria-valuenow', String(Math.round(100 * this.at.share)));
    if (this.mode === 'swipe') this.hooks.onMove();
  }

  hold(event) {
    event.stopPropagation();
    this.held = true;
    this.element.setPointerCapture?.(event.pointerId);
  }

  drag(event) {
    if (!this.held) return;
    event.stopPropagation();
    const frame = this.element.parentElement.getBoundingClientRect();
    this.place((event.clientX - frame.left) / frame.width);
  }

  key(event) {
    const step = { ArrowLeft: -STEP, ArrowRight: STEP }[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    this.place(this.at.share + step);
  }

  destroy() {
    clearInterval(this.timer);
  }
}
