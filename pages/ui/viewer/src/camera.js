// Where we look: kept per slide for as long as the browser tab lives.

const STORE = 'spatialformer.view.';
const MOVE_MS = 180;
const MAX_ZOOM = 6;
const OPENED = new Set();

const calm = () => globalThis.matchMedia?.('(prefers-reduced-motion: reduce)').matches;

export class Camera {
  /** `onChange(viewState)` is called whenever the view moves by other means than the mouse. */
  constructor(slide, onChange) {
    this.key = STORE + slide;
    this.onChange = onChange;
    this.state = null;
    this.frame = 0;
  }

  /** View state that shows the whole slide beside the panels (`inset` in px: left, right). */
  fitted(bounds, width, height, inset) {
    const [x0, y0, x1, y1] = bounds;
    const free = Math.max(80, width - inset[0] - inset[1]);
    const zoom = Math.log2(Math.min((free * 0.94) / Math.max(1, x1 - x0), (height * 0.92) / Math.max(1, y1 - y0)));
    const shift = (inset[1] - inset[0]) / 2 / 2 ** zoom;
    return { target: [(x0 + x1) / 2 + shift, (y0 + y1) / 2, 0], zoom, minZoom: zoom - 1.5, maxZoom: MAX_ZOOM };
  }

  /** Begin where the link says, where the user left this slide, else with the whole of it. */
  start(bounds, width, height, inset, linked) {
    const whole = this.fitted(bounds, width, height, inset);
    const left = this.opened(linked, whole) ?? this.restored(whole);
    this.state = { ...whole, ...left };
    // A view of one's own is not fitted anew when the page takes its final size.
    this.touched = left !== null;
    return this.state;
  }

  /** View of the link that the page was opened with; once, so that a rerun does not go back to it. */
  opened(linked, whole) {
    const sign = JSON.stringify([this.key, linked]);
    if (!Number.isFinite(linked?.zoom) || OPENED.has(sign)) return null;
    OPENED.add(sign);
    return { target: [linked.x, linked.y, 0], zoom: Math.min(MAX_ZOOM, Math.max(whole.minZoom, linked.zoom)) };
  }

  restored(whole) {
    try {
      const { target, zoom } = JSON.parse(globalThis.sessionStorage.getItem(this.key));
      if (target.every(Number.isFinite) && zoom >= whole.minZoom && zoom <= MAX_ZOOM) return { target, zoom };
    } catch {
      // Nothing stored, or storage is forbidden: the whole slide is shown.
    }
    return null;
  }

  set(state) {
    this.state = state;
    clearTimeout(this.saving);
    this.saving = setTimeout(() => {
      try {
        globalThis.sessionStorage.setItem(this.key, JSON.stringify({ target: state.target, zoom: state.zoom }));
      } catch {
        // Without storage the view lasts as long as the page.
      }
    }, 250);
  }

  /** The mouse takes over. */
  stop() {
    cancelAnimationFrame(this.frame);
    this.goal = null;
  }

  /** Glide to a view; at once for those who prefer less motion. */
  moveTo({ target, zoom }) {
    cancelAnimationFrame(this.frame);
    const from = this.state;
    const goal = Math.min(from.maxZoom, Math.max(from.minZoom, zoom));
    this.goal = { target, zoom: goal };
    const began = performance.now();
    const step = () => {
      const t = calm() ? 1 : Math.min(1, (performance.now() - began) / MOVE_MS);
      const eased = 1 - (1 - t) ** 3;
      const mix = (a, b) => a + (b - a) * eased;
      this.set({ ...this.state, target: [mix(from.target[0], target[0]), mix(from.target[1], target[1]), 0], zoom: mix(from.zoom, goal) });
      this.onChange(this.state);
      if (t < 1) this.frame = requestAnimationFrame(step);
      else this.goal = null;
    };
    step();
  }

  /** Where the view is going: steps that follow fast add up instead of cutting each other short. */
  get ahead() {
    return this.goal ?? this.state;
  }

  zoomBy(levels) {
    const { target, zoom } = this.ahead;
    this.moveTo({ target, zoom: zoom + levels });
  }

  panBy(xPx, yPx) {
    const { target: [x, y], zoom } = this.ahead;
    const scale = 2 ** -zoom;
    this.moveTo({ target: [x + xPx * scale, y + yPx * scale], zoom });
  }
}
