// The picture as a file: PNG, or SVG with regions, names and scale bar as vectors over the PNG.

import { barLength } from './status.js';

const SVG = 'http://www.w3.org/2000/svg';
const MARGIN_PX = 16;

/** Everything of one picture, in CSS pixels: the pixels of deck, regions and bar as numbers. */
function sceneOf({ box, camera, canvas, info, regions, size: [width, height], stage }) {
  // The buffer is only readable in the task that drew it.
  stage.deck.redraw('export');
  const pixels = document.createElement('canvas');
  [pixels.width, pixels.height] = [canvas.width, canvas.height];
  const context = pixels.getContext('2d');
  const style = getComputedStyle(box);
  context.fillStyle = style.backgroundColor;
  context.fillRect(0, 0, pixels.width, pixels.height);
  context.drawImage(canvas, 0, 0);
  const scale = 2 ** camera.state.zoom;
  const shift = [width / 2 - camera.state.target[0] * scale, height / 2 - camera.state.target[1] * scale];
  const shown = regions.visible ? regions.list : [];
  const dark = box.classList.contains('black');
  return { pixels, width, height, scale, shift, bar: info.is_map ? null : barLength(camera.state.zoom), ink: dark ? '#eef2f4' : style.color, paper: dark ? '#05070a' : style.backgroundColor, font: style.fontFamily,
    regions: shown.map(({ name, colour, path, anchor }) => ({ name, colour, path, x: anchor[0] * scale + shift[0], y: anchor[1] * scale + shift[1] - 8 })) };
}

function drawScene(scene) {
  const { pixels, width, height, scale, shift, bar, ink, paper, font } = scene;
  const context = pixels.getContext('2d');
  const ratio = pixels.width / width;
  context.scale(ratio, ratio);
  context.font = `600 13px ${font}`;
  context.textAlign = 'center';
  context.lineJoin = 'round';
  scene.regions.forEach(({ name, colour, path, x, y }) => {
    const outline = new Path2D();
    outline.addPath(new Path2D(path), new DOMMatrix([scale, 0, 0, scale, ...shift]));
    [['rgb(255 255 255 / .75)', 4.5], [colour, 2]].forEach(([stroke, line]) => {
      Object.assign(context, { strokeStyle: stroke, lineWidth: line });
      context.stroke(outline);
    });
    written(context, name, x, y, ink, paper);
  });
  if (!bar) return pixels;
  const [left, base] = [MARGIN_PX, height - MARGIN_PX];
  context.fillStyle = paper;
  context.fillRect(left - 8, base - 28, bar.px + 16, 38);
  context.fillStyle = ink;
  context.fillRect(left, base - 4, bar.px, 4);
  written(context, bar.label, left + bar.px / 2, base - 10, ink, paper);
  return pixels;
}

function written(context, text, x, y, ink, paper) {
  Object.assign(context, { strokeStyle: paper, lineWidth: 4, fillStyle: ink });
  context.strokeText(text, x, y);
  context.fillText(text, x, y);
}

function svgOf({ pixels, width, height, scale, shift, bar, ink, paper, font, regions }) {
  const add = (parent, name, attributes, text) => {
    const element = document.createElementNS(SVG, name);
    Object.entries(attributes).forEach(([key, value]) => element.setAttribute(key, value));
    if (text) element.textContent = text;
    parent?.append(element);
    return element;
  };
  const root = add(null, 'svg', { width, height, viewBox: `0 0 ${width} ${height}`, 'font-family': font, 'font-size': 13, 'font-weight': 600 });
  add(root, 'image', { href: pixels.toDataURL('image/png'), width, height });
  const label = { 'text-anchor': 'middle', fill: ink, stroke: paper, 'stroke-width': 4, 'paint-order': 'stroke', 'stroke-linejoin': 'round' };
  const shapes = add(root, 'g', { id: 'regions', transform: `matrix(${scale} 0 0 ${scale} ${shift.join(' ')})`, fill: 'none' });
  const names = add(root, 'g', { id: 'names' });
  regions.forEach(({ name, colour, path, x, y }) => {
    add(shapes, 'path', { d: path, stroke: colour, 'stroke-width': 2 / scale, 'stroke-linejoin': 'round' });
    add(names, 'text', { x, y, ...label }, name);
  });
  if (bar) {
    const base = height - MARGIN_PX;
    const scaleBar = add(root, 'g', { id: 'scale-bar' });
    add(scaleBar, 'rect', { x: MARGIN_PX - 8, y: base - 28, width: bar.px + 16, height: 38, fill: paper });
    add(scaleBar, 'rect', { x: MARGIN_PX, y: base - 4, width: bar.px, height: 4, fill: ink });
    add(scaleBar, 'text', { x: MARGIN_PX + bar.px / 2, y: base - 10, 'text-anchor': 'middle', fill: ink }, bar.label);
  }
  return `<?xml version="1.0" encoding="UTF-8"?>\n${new XMLSerializer().serializeToString(root)}\n`;
}

/** Hand a file to the browser. */
function download(blob, name) {
  const url = URL.createObjectURL(blob);
  const anchor = document.createElement('a');
  Object.assign(anchor, { href: url, download: name });
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

export async function exportPicture(viewer, kind) {
  const scene = sceneOf(viewer);
  const name = `${viewer.data.slide}-${Math.round(viewer.camera.state.target[0])}-${Math.round(viewer.camera.state.target[1])}um`;
  if (kind === 'svg') download(new Blob([svgOf(scene)], { type: 'image/svg+xml' }), `${name}.svg`);
  else drawScene(scene).toBlob((blob) => download(blob, `${name}.png`), 'image/png');
}

const spanOf = (range) => (range ? [range.low, range.high].map((value) => +value.toPrecision(5)).join(',') : '');

/** Address that shows the same slide, place, colours and genes; the page checks what it gets. */
export function linkTo({ data, camera, settings }) {
  const { target: [x, y], zoom } = camera.state;
  const address = new URL(location.pathname, location.origin);
  Object.entries({ slide: data.slide, x: x.toFixed(1), y: y.toFixed(1), zoom: zoom.toFixed(3), colour: data.colorBy, genes: data.genes.join(','), range: spanOf(settings.rangeOf.get(data.colorBy)) })
    .filter(([, value]) => value).forEach(([key, value]) => address.searchParams.set(key, value));
  return address.href;
}
