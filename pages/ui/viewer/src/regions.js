// Named regions and the one being made, as SVG over the canvas: crisp, labelled, in step with it.

import { inGeometry, polygonsOf, ringArea } from './geometry.js';

const SVG = 'http://www.w3.org/2000/svg';
const FALLBACK = ['#D55E00', '#0072B2', '#009E73', '#CC79A7', '#E69F00', '#56B4E9'];

const create = (name, attributes) => {
  const element = document.createElementNS(SVG, name);
  Object.entries(attributes).forEach(([key, value]) => element.setAttribute(key, value));
  return element;
};

const ringPath = (ring) => `M${ring.map(([x, y]) => `${x} ${y}`).join('L')}Z`;

/** Bring a GeoJSON feature into the form used here. */
function regionOf(feature, index) {
  const properties = feature.properties ?? {};
  const polygons = polygonsOf(feature.geometry);
  return {
    id: String(feature.id ?? properties.id ?? properties.roi_id ?? index),
    name: properties.name ?? `Region ${index + 1}`,
    colour: properties.color || FALLBACK[index % FALLBACK.length],
    selected: Boolean(properties.selected),
    geometry: feature.geometry,
    path: polygons.flat().map(ringPath).join(''),
    anchor: anchorOf(polygons),
    area: polygons.reduce((sum, [outer, ...holes]) => sum + ringArea(outer) - holes.reduce((s, h) => s + ringArea(h), 0), 0),
  };
}

/** Where the label goes: above the topmost vertex. */
function anchorOf(polygons) {
  let top = null;
  polygons.forEach(([outer]) => outer.forEach((point) => {
    if (!top || point[1] < top[1]) top = point;
  }));
  return top ?? [0, 0];
}

export class Regions {
  constructor(svg) {
    this.shapes = create('g', { class: 'regions' });
    this.labels = create('g', { class: 'region-labels' });
    svg.prepend(this.shapes, this.labels);
    this.list = [];
    this.draft = null;
    this.visible = true;
  }

  /** True if the regions differ from those shown. */
  set(features, draft) {
    const signature = JSON.stringify([features, draft, this.visible]);
    if (signature === this.signature) return false;
    this.signature = signature;
    this.list = features.map(regionOf);
    this.draft = draft;
    this.rebuild();
    return true;
  }

  rebuild() {
    this.shapes.replaceChildren();
    this.labels.replaceChildren();
    if (this.visible) this.list.forEach((region) => this.addRegion(region));
    if (this.draft) ['draft halo', 'draft'].forEach((cls) => this.shapes.append(create('path', { class: cls, d: ringPath(this.draft), 'vector-effect': 'non-scaling-stroke' })));
  }

  addRegion(region) {
    const style = `--region:${region.colour}`;
    const cls = region.selected ? 'region selected' : 'region';
    this.shapes.append(create('path', { class: `${cls} halo`, d: region.path, 'vector-effect': 'non-scaling-stroke' }));
    this.shapes.append(create('path', { class: cls, d: region.path, style, 'fill-rule': 'evenodd', 'vector-effect': 'non-scaling-stroke' }));
    const label = create('text', { class: cls, style, 'text-anchor': 'middle' });
    label.textContent = region.name;
    this.labels.append(label);
    region.label = label;
  }

  /** Follow the view: um -> px is a scale and a shift. */
  follow({ target, zoom }, width, height) {
    const scale = 2 ** zoom;
    const [dx, dy] = [width / 2 - target[0] * scale, height / 2 - target[1] * scale];
    this.shapes.setAttribute('transform', `matrix(${scale} 0 0 ${scale} ${dx} ${dy})`);
    if (!this.visible) return;
    this.list.forEach((region) => {
      region.label?.setAttribute('x', region.anchor[0] * scale + dx);
      region.label?.setAttribute('y', region.anchor[1] * scale + dy - 8);
    });
  }

  /** Smallest region at a point (um), or null. */
  hit(point) {
    const under = this.list.filter((region) => inGeometry(point, region.geometry));
    return under.sort((a, b) => a.area - b.area)[0] ?? null;
  }
}
