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

const NO_CODE = 65_536;

/** Colours of codes, [r, g, b, share of full opacity in 255ths] each; the last is of cells without a code. */
class Table {
  constructor(size) {
    this.size = size;
    this.rgba = new Uint8Array(4 * (size + 1));
  }

  set(code, [r, g, b], share) {
    this.rgba.set([r, g, b, Math.round(255 * share)], 4 * (code < 0 ? this.size : code));
  }
}

/** Groups that are hidden have no opacity; those that only fill the picture have little. */
function groupTable(header, hidden) {
  const table = new Table(header.categories.length);
  const faint = new Set(header.faint);
  header.colours.forEach((hex, code) => table.set(code, parseHex(hex), hidden.has(code) ? 0 : faint.has(code) ? FAINT_ZERO : 1));
  table.set(-1, parseHex(header.unassigned), hidden.has(-1) ? 0 : 0.6);
  return table;
}

/** Value of a code: counts of a gene begin at zero. */
export const valueOf = (header, code) => (header.offset ?? 0) + code * header.scale;

function valueTable(header, { low, high, hide }, dark) {
  const ramp = expressionRamp(dark);
  const zero = dark ? NOTHING.dark : NOTHING.light;
  const gene = header.kind === 'gene';
  const table = new Table(gene ? 256 : 65_535);
  const span = Math.max(high - low, 1e-12);
  for (let code = 0; code < table.size; code += 1) {
    const value = valueOf(header, code);
    if (gene && code === 0) table.set(code, zero, hide && low > 0 ? 0 : FAINT_ZERO);
    else table.set(code, ramp[Math.round(255 * Math.min(1, Math.max(0, (value - low) / span)))], hide && value < low ? 0 : 1);
  }
  table.set(-1, zero, hide ? 0 : FAINT_ZERO);
  return table;
}

/**
 * Colour of each cell, RGBA, in slide order.
 * A cell that fails QC is drawn fainter, or not at all.
 */
export function cellColours(colouring, passes, { hidden, range, showFailing, dark }) {
  const n = passes.length;
  const rgba = new Uint8Array(4 * n);
  const plain = new Table(0);
  plain.set(-1, dark ? [140, 170, 180] : [70, 110, 125], 1);
  const table = !colouring ? plain
    : colouring.header.kind === 'group' ? groupTable(colouring.header, hidden)
      : valueTable(colouring.header, range, dark);
  const failing = showFailing ? FAINT_QC : 0;
  for (let i = 0; i < n; i += 1) {
    const code = colouring ? colouring.codes[i] : NO_CODE;
    const at = 4 * Math.min(code, table.size);
    rgba[4 * i] = table.rgba[at];
    rgba[4 * i + 1] = table.rgba[at + 1];
    rgba[4 * i + 2] = table.rgba[at + 2];
    rgba[4 * i + 3] = table.rgba[at + 3] * (passes[i] ? 1 : failing);
  }
  return rgba;
}

/** Order in which to draw: cells with most of it lie on top. null: slide order. */
export function drawOrder(colouring) {
  if (!colouring || (colouring.header.kind === 'group' && !colouring.header.ordered)) return null;
  const { codes } = colouring;
  // 255 copies of a gene are a number, not a missing one.
  const none = colouring.header.kind === 'gene' ? -1 : colouring.none;
  const rank = (code) => (code === none ? 0 : code + 1);
  const at = new Uint32Array(NO_CODE + 2);
  for (const code of codes) at[rank(code) + 1] += 1;
  for (let code = 0; code <= NO_CODE; code += 1) at[code + 1] += at[code];
  const order = new Uint32Array(codes.length);
  for (let i = 0; i < codes.length; i += 1) {
    const place = rank(codes[i]);
    order[at[place]] = i;
    at[place] += 1;
  }
  return order;
}
