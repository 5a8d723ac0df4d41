// Which cell is under the pointer: a uniform grid over all centres, built once (50 ms for 1 M).

export class Grid {
  constructor(xy, n) {
    this.xy = xy;
    let [x0, y0, x1, y1] = [Infinity, Infinity, -Infinity, -Infinity];
    for (let i = 0; i < n; i += 1) {
      x0 = Math.min(x0, xy[2 * i]); x1 = Math.max(x1, xy[2 * i]);
      y0 = Math.min(y0, xy[2 * i + 1]); y1 = Math.max(y1, xy[2 * i + 1]);
    }
    // About two cells per square, whatever the density.
    this.side = Math.max(1, Math.sqrt((2 * Math.max(1, (x1 - x0) * (y1 - y0))) / Math.max(1, n)));
    this.x0 = x0;
    this.y0 = y0;
    this.nx = n ? Math.floor((x1 - x0) / this.side) + 1 : 0;
    this.ny = n ? Math.floor((y1 - y0) / this.side) + 1 : 0;
    this.start = new Uint32Array(this.nx * this.ny + 1);
    const square = new Uint32Array(n);
    for (let i = 0; i < n; i += 1) {
      square[i] = Math.floor((xy[2 * i + 1] - y0) / this.side) * this.nx + Math.floor((xy[2 * i] - x0) / this.side);
      this.start[square[i] + 1] += 1;
    }
    for (let s = 0; s < this.nx * this.ny; s += 1) this.start[s + 1] += this.start[s];
    const next = this.start.slice();
    this.cells = new Uint32Array(n);
    for (let i = 0; i < n; i += 1) {
      this.cells[next[square[i]]] = i;
      next[square[i]] += 1;
    }
  }

  /** Nearest cell within a radius (um) that `accept` lets through, -1 if there is none. */
  nearest(x, y, radius, accept) {
    const column = (v) => Math.min(this.nx - 1, Math.max(0, Math.floor((v - this.x0) / this.side)));
    const row = (v) => Math.min(this.ny - 1, Math.max(0, Math.floor((v - this.y0) / this.side)));
    if (!this.cells.length) return -1;
    let best = -1;
    let bestSquared = radius * radius;
    for (let r = row(y - radius); r <= row(y + radius); r += 1) {
      const first = r * this.nx;
      for (let k = this.start[first + column(x - radius)]; k < this.start[first + column(x + radius) + 1]; k += 1) {
        const i = this.cells[k];
        const squared = (this.xy[2 * i] - x) ** 2 + (this.xy[2 * i + 1] - y) ** 2;
        if (squared <= bestSquared && accept(i)) {
          best = i;
          bestSquared = squared;
        }
      }
    }
    return best;
  }
}
