// Pairs of points that place an image: where something is in the image, and where it is in the tissue.

const SVG = 'http://www.w3.org/2000/svg';
const MOST_PAIRS = 60;

/** Where pixel (x, y) of an image lies, um. */
export const placed = ([[a, b, c], [d, e, f]], [x, y]) => [a * x + b * y + c, d * x + e * y + f];

/** Which pixel of an image lies at a place (um). */
function pixelAt([[a, b, c], [d, e, f]], [x, y]) {
  const determinant = a * e - b * d;
  const [u, v] = [x - c, y - f];
  return [(e * u - b * v) / determinant, (a * v - d * u) / determinant];
}

const shape = (name, attributes, text) => {
  const element = document.createElementNS(SVG, name);
  Object.entries(attributes).forEach(([key, value]) => element.setAttribute(key, value));
  if (text) element.textContent = text;
  return element;
};

export class Keypoints {
  /** hooks: affine() of the image now, toPx(um), onPairs(pairs) after each change by the user */
  constructor(group, hooks) {
    Object.assign(this, { group, hooks, pairs: [], from: null, open: false });
  }

  /** Take over the pairs that the page holds: [[image x, image y, um x, um y], ...]. */
  set(pairs) {
    this.pairs = pairs.map((pair) => [...pair]);
    this.trace();
  }

  use(open) {
    this.open = open;
    this.from = null;
    this.trace();
  }

  /** First click: a place in the image. Second: where it belongs. Returns what to say. */
  click(um) {
    if (!this.from) {
      if (this.pairs.length >= MOST_PAIRS) return `${MOST_PAIRS} pairs are enough.`;
      this.from = pixelAt(this.hooks.affine(), um);
      this.trace();
      return '';
    }
    this.pairs.push([...this.from, ...um]);
    this.from = null;
    this.trace();
    this.hooks.onPairs(this.pairs);
    return '';
  }

  /** Take the last click back; false if there is none. */
  back() {
    if (!this.open || (!this.from && !this.pairs.length)) return false;
    if (this.from) this.from = null;
    else {
      this.pairs.pop();
      this.hooks.onPairs(this.pairs);
    }
    this.trace();
    return true;
  }

  get advice() {
    return this.from ? 'Now click where this belongs among the cells · Z takes it back'
      : `Click something in the image that you also find among the cells · ${this.pairs.length} set, 3 at least · Esc ends`;
  }

  /** Draw arrows from where the image has a point to where it belongs. */
  trace() {
    this.group.replaceChildren();
    const affine = this.open ? this.hooks.affine() : null;
    if (!affine) return;
    this.pairs.forEach(([ix, iy, ux, uy], i) => {
      const [x0, y0] = this.hooks.toPx(placed(affine, [ix, iy]));
      const [x1, y1] = this.hooks.toPx([ux, uy]);
      this.group.append(shape('line', { class: 'keypoint', x1: x0, y1: y0, x2: x1, y2: y1 }),
        shape('circle', { class: 'keypoint from', cx: x0, cy: y0, r: 5 }),
        shape('circle', { class: 'keypoint to', cx: x1, cy: y1, r: 5 }),
        shape('text', { class: 'keypoint', x: x1 + 8, y: y1 - 6 }, String(i + 1)));
    });
    if (this.from) {
      const [x, y] = this.hooks.toPx(placed(affine, this.from));
      this.group.append(shape('circle', { class: 'keypoint from', cx: x, cy: y, r: 7 }));
    }
  }
}
