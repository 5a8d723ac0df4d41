// The canvas: deck.gl, its layers, and the way between pixels and um.

import { Deck, OrthographicView } from '@deck.gl/core';

import { lookOf } from './channels.js';
import { cellColours, drawOrder } from './colour.js';
import { OUTLINE_ZOOM, imageLayer, nucleiLayer, outlineLayer, pointsLayer } from './layers.js';

const MOVING = { scrollZoom: { speed: 0.01, smooth: false }, doubleClickZoom: false, keyboard: false, dragRotate: false };
/** Share of their opacity that cells keep below a density map: both at full strength hide each other. */
const DIMMED = 0.22;

/** What deck asks for: a canvas has one context, and deck is handed this one. */
const CONTEXT = { preserveDrawingBuffer: true, powerPreference: 'high-performance' };

let webGL = null;
let tried = null;

/** Tried once: a context waits for the frame that the graphics card is drawing, and a browser has few. */
export function hasWebGL([width, height]) {
  if (webGL === null) {
    tried = document.createElement('canvas');
    // At its size from the start: another size would wait for the card once more.
    tried.width = Math.round(width * devicePixelRatio);
    tried.height = Math.round(height * devicePixelRatio);
    try {
      webGL = Boolean(tried.getContext('webgl2', CONTEXT));
    } catch {
      // Browsers that guard against being recognised may refuse by throwing.
      webGL = false;
    }
  }
  return webGL;
}

/** A canvas to draw on; the first is the one that WebGL was tried with. */
export function freshCanvas() {
  const canvas = tried ?? document.createElement('canvas');
  tried = null;
  return canvas;
}

/** Smallest radius of a point: few cells must be seen, many must not cover each other. */
const leastRadius = (n) => (n < 30e3 ? 1.5 : n < 200e3 ? 1.1 : 0.8);

export class Stage {
  /** hooks: onMove(viewState), onFrame(), onReady(), onProblem(error), onLost() */
  constructor(canvas, camera, hooks) {
    this.camera = camera;
    this.hooks = hooks;
    this.outlinesReady = false;
    this.paintId = 0;
    this.deck = new Deck({
      canvas,
      width: '100%',
      height: '100%',
      views: new OrthographicView({ id: 'tissue', flipY: true }),
      viewState: camera.state,
      controller: MOVING,
      layers: [],
      useDevicePixels: true,
      getCursor: ({ isDragging }) => (this.drawing ? 'crosshair' : isDragging ? 'grabbing' : 'default'),
      onViewStateChange: ({ viewState }) => {
        // While corners are being set the view stands still: they are kept in pixels.
        if (this.held) return;
        camera.touched = true;
        camera.stop();
        this.look({ ...viewState, zoom: Array.isArray(viewState.zoom) ? viewState.zoom[0] : viewState.zoom });
      },
      onBeforeRender: () => hooks.onFrame(),
      onError: (error) => hooks.onProblem(error),
    });
    canvas.addEventListener('webglcontextlost', (event) => {
      event.preventDefault();
      hooks.onLost();
    });
  }

  look(viewState) {
    this.camera.set(viewState);
    this.deck.setProps({ viewState });
    this.hooks.onMove(viewState);
  }

  /** What the tools do now. They take the pointer before deck sees it; telling deck would draw all cells anew. */
  use({ drawing, busy }) {
    this.drawing = drawing;
    this.held = busy;
  }

  setCells(cells) {
    this.cells = cells;
    this.ordered = null;
  }

  /** Colour all cells anew. */
  paint(colouring, options) {
    const { xy, n, passes } = this.cells;
    this.rgba = cellColours(colouring, passes, options);
    this.paintId += 1;
    const order = drawOrder(colouring);
    let [positions, colours] = [xy, this.rgba];
    if (order) {
      // The same order serves until another gene is shown.
      if (this.orderedFor !== colouring) {
        this.ordered = new Float32Array(2 * n);
        order.forEach((cell, i) => {
          this.ordered[2 * i] = xy[2 * cell];
          this.ordered[2 * i + 1] = xy[2 * cell + 1];
        });
        this.orderedFor = colouring;
      }
      positions = this.ordered;
      const from = new Uint32Array(this.rgba.buffer);
      const to = new Uint32Array(n);
      order.forEach((cell, i) => { to[i] = from[cell]; });
      colours = new Uint8Array(to.buffer);
    }
    this.points = {
      length: n,
      attributes: { getPosition: { value: positions, size: 2 }, getFillColor: { value: colours, size: 4, normalized: true } },
    };
  }

  visible(cell) {
    return this.rgba[4 * cell + 3] > 0;
  }

  /** Give deck the layers that the settings ask for; `parts` is what the alignment check leaves of them. */
  draw({ net, info, settings, image, transcripts, dimmed, dark, parts }) {
    const shared = { net, onProblem: (error) => this.hooks.onProblem(error) };
    const opacity = settings.cellOpacity * (dimmed ? DIMMED : 1);
    const layers = image && settings.showImage && parts.image ? this.imageLayers(image, settings, { ...shared, extensions: parts.left }) : [];
    const near = this.near(info, settings);
    if (!near) this.outlinesReady = false;
    const cut = { extensions: parts.right };
    if (this.points) {
      const lines = near && info.has_polygons && settings.outlines;
      const shown = settings.showCells && parts.cells;
      layers.push(pointsLayer({ ...cut, points: this.points, radiusUm: info.cell_radius_um * 0.8, leastPx: leastRadius(this.cells.n), opacity, visible: shown && !(lines && this.outlinesReady) }));
      if (lines) {
        layers.push(outlineLayer({ ...shared, ...cut, info, rgba: this.rgba, paintId: this.paintId, opacity, visible: shown, onLoaded: () => this.outlinesLoaded() }));
      }
      if (near && info.has_nuclei && settings.nuclei) layers.push(nucleiLayer({ ...shared, ...cut, info, dark, opacity: 1, visible: parts.cells }));
    }
    this.deck.setProps({ layers: [...layers, ...transcripts] });
  }

  near(info, settings) {
    return (info.has_polygons || info.has_nuclei) && settings.showCells && this.camera.state.zoom >= OUTLINE_ZOOM;
  }

  outlinesLoaded() {
    if (this.outlinesReady) return;
    this.outlinesReady = true;
    // deck calls this while it updates its layers and would miss a change made right now.
    requestAnimationFrame(() => this.hooks.onReady());
  }

  imageLayers(image, settings, shared) {
    const stain = image.kind !== 'he';
    const channels = stain ? [...settings.channels].filter((index) => index < Math.max(1, image.channels.length)) : [0];
    return channels.map((channel) => imageLayer({
      ...shared,
      image,
      channel,
      tileSize: image.tile_px ?? 512,
      opacity: stain ? lookOf(settings, image, channel).opacity : settings.imageOpacity,
      look: stain ? lookOf(settings, image, channel) : null,
    }));
  }

  /** Part of the tissue that is seen, um: [x0, y0, x1, y1]. */
  window(width, height) {
    return [...this.toUm([0, 0], width, height), ...this.toUm([width, height], width, height)];
  }

  toUm([x, y], width, height) {
    const { target, zoom } = this.camera.state;
    const scale = 2 ** -zoom;
    return [target[0] + (x - width / 2) * scale, target[1] + (y - height / 2) * scale];
  }

  toPx([x, y], width, height) {
    const { target, zoom } = this.camera.state;
    const scale = 2 ** zoom;
    return [width / 2 + (x - target[0]) * scale, height / 2 + (y - target[1]) * scale];
  }

  destroy() {
    this.deck.finalize();
  }
}
