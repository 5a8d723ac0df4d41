// Transcripts of the chosen genes: single molecules when near, a map of their density when far.

import { BitmapLayer, ScatterplotLayer } from '@deck.gl/layers';
import { Matrix4 } from '@math.gl/core';

import { expressionRamp, parseHex } from './colour.js';
import { decodeDensity, decodeMolecules } from './decode.js';

/** One colour per chosen gene, in the order of choice; as many as the server answers for. */
export const GENE_COLOURS = ['#E6007A', '#00A6D6', '#E8A800', '#00A86B', '#7B4DFF', '#F2601D'];
/** Single molecules are drawn from here on (pixels per um as a power of two). */
const MOLECULE_ZOOM = 0.75;
/** More molecules than this in a window are shown as density: points would only cover each other. */
export const MOST_MOLECULES = 200_000;
/** The server's answer to more than it sends at once. */
const TOO_MANY = 413;
const SETTLE_MS = 140;
const LEAST_BIN_PX = 2.5;
const MAPS_KEPT = 40;
const ALL = '';
const SMOOTH = { minFilter: 'linear', magFilter: 'linear', addressModeU: 'clamp-to-edge', addressModeV: 'clamp-to-edge' };

const contains = (outer, inner) => outer[0] <= inner[0] && outer[1] <= inner[1] && outer[2] >= inner[2] && outer[3] >= inner[3];

/** Count that is drawn in full colour: the 99.5th percentile of bins that hold any. */
function highOf(counts) {
  const present = counts.filter((count) => count > 0).sort();
  return present.length ? present[Math.floor(0.995 * (present.length - 1))] : 1;
}

/** Molecules of a density map in a window (um). */
function countIn({ columns, rows, binUm, counts }, origin, [x0, y0, x1, y1]) {
  const clamp = (value, most) => Math.min(most, Math.max(0, value));
  const [left, right] = [x0, x1].map((x) => clamp(Math.floor((x - origin[0]) / binUm), columns - 1));
  const [top, bottom] = [y0, y1].map((y) => clamp(Math.floor((y - origin[1]) / binUm), rows - 1));
  let sum = 0;
  for (let row = top; row <= bottom; row += 1) {
    for (let i = row * columns + left; i <= row * columns + right; i += 1) sum += counts[i];
  }
  return sum;
}

/** Picture of several maps: colours mix by share, opacity grows with the root of the count. */
function picture(maps, colours, dark) {
  const { columns, rows } = maps[0];
  const data = new Uint8ClampedArray(4 * columns * rows);
  const ramp = colours ? null : expressionRamp(dark);
  // Empty bins carry the colour, too: the smoothing between bins would else fade towards black.
  const empty = colours ? [0, 1, 2].map((k) => colours.reduce((sum, colour) => sum + colour[k], 0) / colours.length) : ramp[0];
  for (let i = 0; i < columns * rows; i += 1) {
    let [sum, clear] = [0, 1];
    const mixed = [0, 0, 0];
    maps.forEach((map, m) => {
      const t = Math.sqrt(Math.min(1, map.counts[i] / map.high));
      const colour = colours ? colours[m] : ramp[Math.round(255 * t)];
      for (let k = 0; k < 3; k += 1) mixed[k] += t * colour[k];
      sum += t;
      clear *= 1 - 0.94 * t;
    });
    for (let k = 0; k < 3; k += 1) data[4 * i + k] = sum ? mixed[k] / sum : empty[k];
    data[4 * i + 3] = 255 * (1 - clear);
  }
  return new ImageData(data, columns, rows);
}

export class Transcripts {
  /** hooks: onChange() when there is something new to draw or say, onProblem(error) */
  constructor(net, info, hooks) {
    Object.assign(this, { net, info, hooks });
    this.genes = [];
    this.maps = new Map();
    this.forget();
  }

  get available() {
    return this.info.density_bins_um.length > 0;
  }

  forget() {
    this.abort?.abort();
    clearTimeout(this.timer);
    this.molecules = null;
    this.density = null;
    this.pictureOf = null;
    this.mode = 'off';
    this.inView = 0;
  }

  choose(genes) {
    if (genes.join('\n') === this.genes.join('\n')) return;
    this.genes = genes;
    this.forget();
  }

  /** Load what this view needs once it stands still; what is there already stays on screen. */
  follow(view, settings) {
    const wanted = settings.showTranscripts && this.available && (this.genes.length > 0 || settings.allTranscripts);
    if (!wanted) {
      if (this.mode !== 'off') this.forget();
      return;
    }
    this.view = view;
    const key = JSON.stringify([view, this.genes, settings.allTranscripts]);
    if (key === this.followed && this.mode !== 'off') return;
    this.followed = key;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.load(), this.mode === 'off' ? 0 : SETTLE_MS);
  }

  async load() {
    this.abort?.abort();
    this.abort = new AbortController();
    const { signal } = this.abort;
    try {
      await this.loadDensity(signal);
      if (!signal.aborted) await this.loadMolecules(signal);
    } catch (error) {
      if (error.name === 'AbortError') return;
      if (error.status === TOO_MANY) this.showMany();
      this.hooks.onProblem(error);
    }
  }

  /** The density map serves where there are too many molecules to draw. */
  showMany() {
    this.molecules = null;
    this.mode = 'many';
    this.hooks.onChange();
  }

  async loadDensity(signal) {
    const bins = this.info.density_bins_um;
    const fine = bins.findIndex((bin) => bin * 2 ** this.view.zoom >= LEAST_BIN_PX);
    const level = fine < 0 ? bins.length - 1 : fine;
    const names = this.genes.length ? this.genes : [ALL];
    const maps = await Promise.all(names.map((gene) => this.map(level, gene, signal)));
    if (signal.aborted) return;
    this.density = { maps, level, names };
    const near = this.genes.length > 0 && this.view.zoom >= MOLECULE_ZOOM;
    this.inView = this.count(this.view.window);
    if (near && this.inView > MOST_MOLECULES) this.showMany();
    else if (!near) {
      this.molecules = null;
      this.mode = 'density';
      this.hooks.onChange();
    }
  }

  async loadMolecules(signal) {
    if (!this.genes.length || this.view.zoom < MOLECULE_ZOOM || this.inView > MOST_MOLECULES) return;
    const { window } = this.view;
    if (!this.molecules || !contains(this.molecules.window, window)) {
      const wide = this.widened(window);
      const asked = this.count(wide) > MOST_MOLECULES ? window : wide;
      const path = `molecules.bin?genes=${this.genes.map(encodeURIComponent).join(',')}&window=${asked.map((v) => v.toFixed(2)).join(',')}`;
      const found = decodeMolecules(await this.net.buffer(path, signal), this.genes.length);
      if (signal.aborted) return;
      this.molecules = { ...found, window: asked };
    }
    this.mode = 'molecules';
    this.hooks.onChange();
  }

  /** Half a view more on each side, in whole tiles: a small move asks the server nothing. */
  widened([x0, y0, x1, y1]) {
    const side = this.info.tile_um;
    const [ox, oy] = this.info.tile_origin_um;
    const [mx, my] = [(x1 - x0) / 2, (y1 - y0) / 2];
    const down = (v, o) => o + side * Math.floor((v - o) / side);
    const up = (v, o) => o + side * Math.ceil((v - o) / side);
    return [down(x0 - mx, ox), down(y0 - my, oy), up(x1 + mx, ox), up(y1 + my, oy)];
  }

  count(window) {
    return this.density.maps.reduce((sum, map) => sum + countIn(map, this.info.tile_origin_um, window), 0);
  }

  async map(level, gene, signal) {
    const key = `${level}/${gene}`;
    if (!this.maps.has(key)) {
      const path = `density/${level}.bin${gene ? `?genes=${encodeURIComponent(gene)}` : ''}`;
      const map = decodeDensity(await this.net.buffer(path, signal));
      map.high = highOf(map.counts);
      this.maps.set(key, map);
      if (this.maps.size > MAPS_KEPT) this.maps.delete(this.maps.keys().next().value);
    }
    return this.maps.get(key);
  }

  /** Layers for deck; hidden genes are left out without asking the server again. */
  layers(settings, dark) {
    const origin = this.info.tile_origin_um;
    if (this.mode === 'molecules') return this.points(settings, origin);
    if (this.mode === 'off' || !this.density) return [];
    const shown = this.density.names.map((gene, i) => i).filter((i) => !settings.hiddenGenes.has(this.density.names[i]));
    if (!shown.length) return [];
    const key = JSON.stringify([this.density.level, this.density.names, shown, dark]);
    if (key !== this.pictureOf) {
      const colours = this.genes.length ? shown.map((i) => parseHex(GENE_COLOURS[i])) : null;
      this.image = picture(shown.map((i) => this.density.maps[i]), colours, dark);
      this.pictureOf = key;
    }
    const { columns, rows, binUm } = this.density.maps[0];
    const [x, y] = origin;
    return [new BitmapLayer({ id: 'density', image: this.image, bounds: [x, y + rows * binUm, x + columns * binUm, y], opacity: settings.transcriptOpacity, textureParameters: SMOOTH })];
  }

  points(settings, origin) {
    return this.genes.map((gene, i) => {
      const [first, last] = this.molecules.runs[i];
      return new ScatterplotLayer({
        id: `molecules-${i}`,
        data: { length: last - first, attributes: { getPosition: { value: this.molecules.xy.subarray(2 * first, 2 * last), size: 2 } } },
        modelMatrix: new Matrix4().translate([...origin, 0]),
        positionFormat: 'XY',
        getFillColor: parseHex(GENE_COLOURS[i]),
        radiusUnits: 'common',
        getRadius: 0.4,
        radiusMinPixels: 1.7,
        radiusMaxPixels: 6,
        opacity: settings.transcriptOpacity,
        visible: !settings.hiddenGenes.has(gene),
      });
    });
  }
}
