// From codes to colours. Ramps are made in OKLCH, so that equal steps look equal.

const FAINT_QC = 0.3;
const FAINT_ZERO = 0.35;

export function parseHex(hex) {
  const value = Number.parseInt(hex.slice(1, 7), 16);
  return [(value >> 16) & 255, (value >> 8) & 255, value & 255];
}

function fromOklch(lightness, chroma, hue) {
  const a = chroma * Math.cos((hue * Math.PI) / 180);
  const b = chroma * Math.sin((hue * Math.PI) / 180);
  const l = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (lightness - 0.0894841775 * a - 1.291485548 * b) ** 3;
  const linear = [
    4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
    -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
    -0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s,
  ];
  return linear.map((v) => {
    const c = Math.min(1, Math.max(0, v));
    return Math.round(255 * (c <= 0.0031308 ? 12.92 * c : 1.055 * c ** (1 / 2.4) - 0.055));
  });
}

/** 256 colours from little to much: towards dark on white, towards light on black. */
export function expressionRamp(dark) {
  const ramp = [];
  for (let i = 0; i < 256; i += 1) {
    const t = i / 255;
    ramp.push(dark
      ? fromOklch(0.38 + 0.54 * t, 0.11 + 0.07 * Math.sin(Math.PI * t), 300 - 195 * t)
      : fromOklch(0.88 - 0.56 * t, 0.09 + 0.1 * Math.sin(Math.PI * t), 85 - 145 * t));
  }
  return ramp;
}

export const NOTHING = { light: [176, 186, 191], dark: [92, 104, 112] };

/** CSS gradient of the ramp, for the legend. */
export function rampGradient(ramp) {
  const stops = [0, 32, 64, 96, 128, 160, 192, 224, 255].map((i) => `rgb(${ramp[i].join(' ')})`);
  return `linear-gradient(to right, ${stops.join(', ')})`;
}

/** Look-up table code -> [r, g, b, share of full opacity]; hidden groups have none. */
function groupTable(header, hidden) {
  const table = header.colours.map((hex, code) => [...parseHex(hex), hidden.has(code) ? 0 : 1]);
  return { table, other: [...parseHex(header.unassigned), hidden.has(-1) ? 0 : 0.6] };
}

function geneTable(header, dark) {
  const ramp = expressionRamp(dark);
  const zero = dark ? NOTHING.dark : NOTHING.light;
  const table = [];
  for (let code = 0; code < 256; code += 1) {
    const t = Math.min(1, (code * header.scale) / header.high);
    table.push(code === 0 ? [...zero, FAINT_ZERO] : [...ramp[Math.round(255 * t)], 1]);
  }
  return { table, other: [...zero, FAINT_ZERO] };
}

/**
 * Colour of each cell, RGBA, in slide order.
 * A cell that fails QC is drawn fainter, or not at all.
 */
export function cellColours(colouring, passes, { hidden, showFailing, dark }) {
  const n = passes.length;
  const rgba = new Uint8Array(4 * n);
  const plain = dark ? [140, 170, 180] : [70, 110, 125];
  const lookUp = !colouring ? { table: [], other: [...plain, 1] }
    : colouring.header.kind === 'group' ? groupTable(colouring.header, hidden)
      : geneTable(colouring.header, dark);
  for (let i = 0; i < n; i += 1) {
    const colour = (colouring && lookUp.table[colouring.codes[i]]) || lookUp.other;
    const share = passes[i] ? 1 : showFailing ? FAINT_QC : 0;
    rgba[4 * i] = colour[0];
    rgba[4 * i + 1] = colour[1];
    rgba[4 * i + 2] = colour[2];
    rgba[4 * i + 3] = 255 * colour[3] * share;
  }
  return rgba;
}

/** Order in which to draw: cells that express the gene lie on top. null: slide order. */
export function drawOrder(colouring) {
  if (!colouring || colouring.header.kind !== 'gene') return null;
  const { codes } = colouring;
  const at = new Uint32Array(257);
  for (const code of codes) at[code + 1] += 1;
  for (let code = 0; code < 256; code += 1) at[code + 1] += at[code];
  const order = new Uint32Array(codes.length);
  for (let i = 0; i < codes.length; i += 1) {
    order[at[codes[i]]] = i;
    at[codes[i]] += 1;
  }
  return order;
}
