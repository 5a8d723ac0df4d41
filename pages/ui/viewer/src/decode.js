// Binary layouts of spatialformer_core/service/view.py.

/** All cells: positions in um (interleaved), and whether each passes QC. */
export function decodePoints(buffer) {
  const n = new Uint32Array(buffer, 0, 1)[0];
  const [x0, y0, stepX, stepY] = new Float64Array(buffer, 8, 4);
  const x = new Uint16Array(buffer, 40, n);
  const y = new Uint16Array(buffer, 40 + 2 * n, n);
  const bits = new Uint8Array(buffer, 40 + 4 * n);
  const xy = new Float32Array(2 * n);
  const passes = new Uint8Array(n);
  for (let i = 0; i < n; i += 1) {
    xy[2 * i] = x0 + stepX * x[i];
    xy[2 * i + 1] = y0 + stepY * y[i];
    passes[i] = (bits[i >> 3] >> (i & 7)) & 1;
  }
  return { n, xy, passes };
}

/** Codes of a grouping or a gene, with the header that explains them. */
export function decodeCodes(buffer) {
  const length = new Uint32Array(buffer, 0, 1)[0];
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const codes = header.wide ? new Uint16Array(buffer, 4 + length) : new Uint8Array(buffer, 4 + length);
  return { header, codes, none: header.wide ? 65535 : 255 };
}

/** Molecules of some genes: the genes follow each other, `runs[i]` is [first, last) of gene i. */
export function decodeMolecules(buffer, nGenes) {
  const n = new Uint32Array(buffer, 0, 1)[0];
  const xy = new Float32Array(buffer, 4, 2 * n);
  const gene = new Uint8Array(buffer, 4 + 8 * n, n);
  const length = new Uint32Array(nGenes);
  for (const code of gene) length[code] += 1;
  let at = 0;
  const runs = Array.from(length, (size) => {
    at += size;
    return [at - size, at];
  });
  return { n, xy, runs };
}

/** Molecules per square bin. */
export function decodeDensity(buffer) {
  const [columns, rows] = new Uint32Array(buffer, 0, 2);
  const [binUm] = new Float64Array(buffer, 8, 1);
  return { columns, rows, binUm, counts: new Uint32Array(buffer, 16, columns * rows) };
}

/** Outlines of one tile; rings are closed here because the renderer wants them closed. */
export function decodeOutlines(buffer) {
  const [n, nVertices] = new Uint32Array(buffer, 0, 2);
  const cells = new Uint32Array(buffer, 8, n);
  const start = new Uint32Array(buffer, 8 + 4 * n, n + 1);
  const source = new Float32Array(buffer, 12 + 8 * n, 2 * nVertices);
  const rings = [];
  let total = 0;
  for (let i = 0; i < n; i += 1) {
    const [a, b] = [start[i], start[i + 1]];
    const closed = source[2 * a] === source[2 * b - 2] && source[2 * a + 1] === source[2 * b - 1];
    rings.push([a, b, closed]);
    total += b - a + (closed ? 0 : 1);
  }
  const xy = new Float32Array(2 * total);
  const startIndices = new Uint32Array(n + 1);
  let at = 0;
  rings.forEach(([a, b, closed], i) => {
    startIndices[i] = at;
    xy.set(source.subarray(2 * a, 2 * b), 2 * at);
    at += b - a;
    if (!closed) {
      xy[2 * at] = source[2 * a];
      xy[2 * at + 1] = source[2 * a + 1];
      at += 1;
    }
  });
  startIndices[n] = at;
  return { n, cells, startIndices, xy };
}
