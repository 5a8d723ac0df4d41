// What deck.gl draws: image tiles, points, outlines.

import { TileLayer } from '@deck.gl/geo-layers';
import { BitmapLayer, PathLayer, ScatterplotLayer, SolidPolygonLayer } from '@deck.gl/layers';
import { Matrix4 } from '@math.gl/core';

import { ChannelBitmap, tintOf } from './channels.js';
import { decodeOutlines } from './decode.js';

/** Outlines replace points from here on (pixels per um as a power of two): a cell is 15 px wide. */
export const OUTLINE_ZOOM = 0.5;
const IMAGE_TILES_KEPT = 220;
const OUTLINE_TILES_KEPT = 80;
const NO_TEXTURE_REPEAT = { minFilter: 'linear', magFilter: 'linear', addressModeU: 'clamp-to-edge', addressModeV: 'clamp-to-edge' };
// Channels of a stain add up like light.
const ADDITIVE = { blend: true, blendColorOperation: 'add', blendColorSrcFactor: 'src-alpha', blendColorDstFactor: 'one', blendAlphaOperation: 'add', blendAlphaSrcFactor: 'one', blendAlphaDstFactor: 'one' };

/** 4x4 column-major matrix of a 3x3 row-major affine (pixel -> um). */
function matrixOf(affine) {
  const [[a, b, c], [d, e, f]] = affine;
  return new Matrix4([a, d, 0, 0, b, e, 0, 0, 0, 0, 1, 0, c, f, 0, 1]);
}

/** um per pixel of an image, whatever its rotation. */
const scaleOf = ([[a, b], [d, e]]) => Math.sqrt(Math.abs(a * e - b * d));

export function imageLayer({ net, image, channel, opacity, look, onProblem, tileSize, extensions }) {
  const affine = image.um_from_px;
  const name = encodeURIComponent(image.name);
  return new TileLayer({
    id: `image-${image.name}-${channel}`,
    tileSize,
    minZoom: -(image.levels - 1),
    maxZoom: 0,
    extent: [0, 0, image.width, image.height],
    modelMatrix: matrixOf(affine),
    // deck chooses the level from the view alone; the image's own scale has to be added.
    zoomOffset: Math.round(Math.log2(scaleOf(affine))),
    refinementStrategy: 'best-available',
    maxRequests: 8,
    maxCacheSize: IMAGE_TILES_KEPT,
    opacity,
    extensions,
    onTileError: onProblem,
    getTileData: ({ index: { x, y, z }, signal }) => {
      // With a model matrix deck also asks for tiles beside the image.
      const side = tileSize * 2 ** -z;
      if (x < 0 || y < 0 || x * side >= image.width || y * side >= image.height) return null;
      return net.bitmap(`image/${name}/${channel}/${-z}/${x}/${y}.jpg`, signal);
    },
    renderSubLayers: (props) => {
      if (!props.data) return null;
      const { boundingBox: [[left, top]], index: { z } } = props.tile;
      // Tiles at the right and lower edge are smaller than the others.
      const [right, bottom] = [left + props.data.width * 2 ** -z, top + props.data.height * 2 ** -z];
      const Tile = look ? ChannelBitmap : BitmapLayer;
      return new Tile(props, {
        data: null,
        image: props.data,
        bounds: [left, bottom, right, top],
        ...(look && { look, tintColor: tintOf(look) }),
        textureParameters: NO_TEXTURE_REPEAT,
        parameters: look ? ADDITIVE : {},
      });
    },
    updateTriggers: { renderSubLayers: [look, extensions, affine.join()] },
  });
}

export function pointsLayer({ points, radiusUm, leastPx, opacity, visible, extensions }) {
  return new ScatterplotLayer({
    id: 'cells',
    data: points,
    radiusUnits: 'common',
    getRadius: radiusUm,
    radiusMinPixels: leastPx,
    opacity,
    visible,
    extensions,
    stroked: false,
    pickable: false,
  });
}

/** Colours of a tile's vertices; `alpha` scales the opacity of each cell. */
function vertexColours(tile, rgba, alpha) {
  const colours = new Uint8Array((tile.xy.length / 2) * 4);
  for (let i = 0; i < tile.n; i += 1) {
    const cell = 4 * tile.cells[i];
    for (let v = tile.startIndices[i]; v < tile.startIndices[i + 1]; v += 1) {
      colours[4 * v] = rgba[cell];
      colours[4 * v + 1] = rgba[cell + 1];
      colours[4 * v + 2] = rgba[cell + 2];
      colours[4 * v + 3] = rgba[cell + 3] * alpha;
    }
  }
  return colours;
}

function tileColours(tile, rgba, paintId) {
  // A tile is repainted only when the colours changed, not at every move.
  if (tile.paintId !== paintId) {
    tile.fill = vertexColours(tile, rgba, 0.42);
    tile.line = vertexColours(tile, rgba, 1);
    tile.paintId = paintId;
  }
  return tile;
}

/** Tiles of outlines; `draw(tile, shared, id)` gives the layers of one. */
function outlineTiles({ id, path, net, info, opacity, visible, extensions, trigger, onLoaded, onProblem, draw }) {
  const side = info.tile_um;
  const [nx, ny] = info.tiles;
  return new TileLayer({
    id,
    tileSize: side,
    minZoom: 0,
    maxZoom: 0,
    extent: [0, 0, nx * side, ny * side],
    // Tiles count from the corner of the slide, and so do the vertices in them.
    modelMatrix: new Matrix4().translate([...info.tile_origin_um, 0]),
    maxRequests: 6,
    maxCacheSize: OUTLINE_TILES_KEPT,
    opacity,
    visible,
    extensions,
    onViewportLoad: onLoaded,
    onTileError: onProblem,
    getTileData: async ({ index: { x, y }, signal }) => {
      if (x < 0 || y < 0 || x >= nx || y >= ny) return null;
      return decodeOutlines(await net.buffer(`${path}/${x}/${y}.bin`, signal));
    },
    renderSubLayers: (props) => {
      if (!props.data?.n) return null;
      return draw(props.data, { opacity: props.opacity, modelMatrix: props.modelMatrix, extensions, positionFormat: 'XY', _pathType: 'loop' }, props.id);
    },
    updateTriggers: { renderSubLayers: [trigger, extensions] },
  });
}

const ringsOf = (tile, colour, value) => ({ length: tile.n, startIndices: tile.startIndices, attributes: { [colour === 'getFillColor' ? 'getPolygon' : 'getPath']: { value: tile.xy, size: 2 }, ...(value && { [colour]: { value, size: 4, normalized: true } }) } });

export function outlineLayer({ rgba, paintId, ...rest }) {
  return outlineTiles({ ...rest, id: 'outlines', path: 'outlines', trigger: paintId, draw: (data, shared, id) => {
    const tile = tileColours(data, rgba, paintId);
    return [
      new SolidPolygonLayer({ ...shared, id: `${id}-fill`, data: ringsOf(tile, 'getFillColor', tile.fill), _normalize: false }),
      new PathLayer({ ...shared, id: `${id}-line`, data: ringsOf(tile, 'getColor', tile.line), widthUnits: 'pixels', getWidth: 1.25 }),
    ];
  } });
}

/** Nuclei: one thin line each, in one colour that stands out from the cells'. */
export function nucleiLayer({ dark, ...rest }) {
  return outlineTiles({ ...rest, id: 'nuclei', path: 'nuclei', trigger: dark, draw: (tile, shared, id) => (
    new PathLayer({ ...shared, id: `${id}-line`, data: ringsOf(tile, 'getColor', null), getColor: dark ? [235, 240, 255, 210] : [25, 30, 70, 210], widthUnits: 'pixels', getWidth: 1 })
  ) });
}
