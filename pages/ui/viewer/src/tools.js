// What tools, keys and buttons do: drawing, moving corners, undo, moving the view, sharing it.

import { DRAWING } from './draw.js';
import { exportPicture, linkTo } from './export.js';
import { polygonsOf } from './geometry.js';
import { keyMeaning } from './toolbar.js';

const SVG = 'http://www.w3.org/2000/svg';
const ADVICE = {
  pan: '',
  lasso: 'Drag around the tissue · Esc stops',
  polygon: 'Click corner after corner, double-click closes · Backspace takes one back',
  rectangle: 'Drag from corner to corner · Esc stops',
  place: '',
  edit: 'Drag a corner, or an edge for a new one · Del takes a corner away · Z undoes · Esc ends',
};
const KEY_HELP = 'Arrows move · + − zoom · 0 whole slide · L P R draw · E corners · Z undo · I cell in the middle · A alignment · M overview · S picture · C link · F full screen';

/** Hundredths of a um: far below what can be drawn. */
export const round = (value) => Math.round(value * 100) / 100;

/** The part of the viewer that its user drives; `Viewer` has what it drives. */
export class Tools {
  showTools() {
    const { tool, busy } = this.tools;
    const focused = this.box.getRootNode().activeElement;
    this.toolbar.show({ tool, canEdit: Boolean(this.editable), canPlace: Boolean(this.stage && this.image()), canUndo: this.drafts.stack.length > 0 || (tool === 'place' && this.keypoints.pairs.length > 0), canClear: Boolean(this.draft) });
    // A button that becomes disabled under the finger would swallow every key after it.
    if (focused?.disabled) this.box.focus({ preventScroll: true });
    this.stage?.use({ drawing: DRAWING.has(tool), busy });
    this.advise();
  }

  advise() {
    const { tool } = this.tools;
    this.status.advise(tool === 'place' ? this.keypoints.advice : ADVICE[tool] || this.check.names[this.check.mode]);
  }

  press(name, key = false) {
    if (!this.stage) return;
    if (name in ADVICE) this.use(name);
    else if (name === 'clear' && key && this.edit.ring) this.edit.remove();
    else if (name === 'back') this.tools.back();
    else if (name === 'undo') this.undo();
    else if (name === 'clear') this.drop();
    else if (name === 'plus' || name === 'minus') this.zoomBy(name === 'plus' ? 0.8 : -0.8);
    else if (name === 'fit') this.fit();
    else if (name === 'full') this.fullScreen();
    else if (name === 'compare') this.compare();
    else if (name === 'map') this.choose({ minimap: !this.settings.minimap });
    else if (name === 'inspect') this.inspectMiddle();
    else if (name === 'png' || name === 'svg') exportPicture(this, name);
    else if (name === 'link') this.copyLink();
    else if (name === 'help') (this.status.hint.textContent === KEY_HELP ? this.advise() : this.status.advise(KEY_HELP));
  }

  use(name) {
    if (name === 'edit' && !this.editable) {
      this.status.say('Draw a region first, or click a saved one to change its corners.');
      return;
    }
    if (name === 'place' && !this.image()) {
      this.status.say('This slide has no image to place.');
      return;
    }
    const { aligning } = this;
    this.tools.use(name);
    this.keypoints.use(name === 'place');
    if (name === 'place' && !this.settings.showImage) this.choose({ showImage: true });
    else if (this.aligning !== aligning) this.redraw();
    if (name === 'pan') this.card.close();
    const editing = name === 'edit';
    if (editing && !this.draft) this.drafts.of = this.regions.list.find((region) => region.selected).id;
    this.edit.open(editing ? this.editable : null);
    this.tooltip.hide();
    this.showRegions();
  }

  get draft() {
    return this.drafts.stack[this.drafts.stack.length - 1] ?? null;
  }

  /** Ring whose corners can be moved: what is drawn, else the chosen region if it is one piece. */
  get editable() {
    if (this.draft) return this.draft;
    const polygons = polygonsOf(this.regions.list.find((region) => region.selected)?.geometry);
    return polygons.length === 1 && polygons[0].length === 1 ? polygons[0][0].slice(0, -1) : null;
  }

  reshaped(ring) {
    this.drafts.stack.push(ring.map((point) => [...point]));
    this.tell();
  }

  zoomBy(levels) {
    this.camera.touched = true;
    this.camera.zoomBy(levels);
  }

  fit() {
    this.camera.touched = false;
    this.camera.moveTo(this.camera.fitted(this.info.bounds_um, ...this.size, this.inset));
  }

  /** Alignment check: off, swipe, blink, off. */
  compare() {
    if (!this.image()) {
      this.status.say('This slide has no image to compare the cells with.');
      return;
    }
    if (!this.settings.showImage) this.choose({ showImage: true });
    this.check.next();
    this.toolbar.buttons.get('compare').setAttribute('aria-pressed', String(this.check.mode !== 'off'));
    this.advise();
  }

  fullScreen() {
    if (document.fullscreenElement) document.exitFullscreen();
    else this.box.requestFullscreen?.().catch(() => this.status.say('This browser does not allow full screen here.'));
  }

  async copyLink() {
    const address = linkTo(this);
    try {
      await navigator.clipboard.writeText(address);
      this.status.say('The link to this view is copied.');
    } catch {
      // Without a secure connection browsers keep the clipboard to themselves.
      this.status.say(address);
    }
  }

  key(event) {
    const meaning = keyMeaning(event);
    if (!meaning || !this.stage) return;
    // Streamlit listens for single letters, too (R runs the page again).
    event.stopPropagation();
    event.preventDefault();
    if (meaning.pan) {
      this.camera.touched = true;
      this.camera.panBy(...meaning.pan);
    } else this.press(meaning.press, true);
  }

  sketched(points) {
    const circles = points.map(([x, y]) => {
      const circle = document.createElementNS(SVG, 'circle');
      Object.entries({ class: 'corner', cx: x, cy: y, r: 4 }).forEach(([key, value]) => circle.setAttribute(key, value));
      return circle;
    });
    this.corners.replaceChildren(...circles);
    this.stage?.use({ drawing: DRAWING.has(this.tools.tool), busy: this.tools.busy });
  }

  outlined(points) {
    this.drafts.of = null;
    this.drafts.stack.push(points.map((point) => this.stage.toUm(point, ...this.size).map(round)));
    this.use('pan');
    this.tell();
  }

  undo() {
    if (this.tools.tool === 'place') {
      this.keypoints.back();
      this.showTools();
      return;
    }
    if (this.tools.back() || !this.drafts.stack.length) return;
    this.drafts.stack.pop();
    this.tell();
  }

  drop() {
    if (!this.draft) return;
    // Kept below: what was discarded by mistake comes back by undo.
    this.drafts.stack.push(null);
    this.tell();
  }

  /** Tell the page which region is drawn now. */
  tell() {
    const polygon = this.draft;
    if (this.tools.tool === 'edit') {
      if (polygon) this.edit.open(polygon);
      else this.use('pan');
    }
    this.drafts.seq = this.send(polygon ? { kind: 'roi', polygon, roi_id: this.drafts.of } : { kind: 'clear' });
    this.showRegions();
  }
}
