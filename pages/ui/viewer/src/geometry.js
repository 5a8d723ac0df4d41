// Plane geometry of drawn outlines. Points are [x, y]; rings are open.

/** Drop vertices that lie within `tolerance` of the line through what is kept (Douglas-Peucker). */
function thin(points, tolerance) {
  const keep = new Uint8Array(points.length);
  keep[0] = 1;
  keep[points.length - 1] = 1;
  const spans = [[0, points.length - 1]];
  while (spans.length) {
    const [a, b] = spans.pop();
    const [ax, ay] = points[a];
    const [dx, dy] = [points[b][0] - ax, points[b][1] - ay];
    const length = Math.hypot(dx, dy);
    let far = 0;
    let at = -1;
    for (let i = a + 1; i < b; i += 1) {
      const [px, py] = [points[i][0] - ax, points[i][1] - ay];
      const distance = length ? Math.abs(px * dy - py * dx) / length : Math.hypot(px, py);
      if (distance > far) {
        far = distance;
        at = i;
      }
    }
    if (far > tolerance) {
      keep[at] = 1;
      spans.push([a, at], [at, b]);
    }
  }
  return points.filter((_, i) => keep[i]);
}

/** Simplify to at most `most` vertices, beginning with a tolerance that nobody can see. */
export function simplify(points, tolerance, most) {
  let result = points;
  for (let t = tolerance; result.length > most || t === tolerance; t *= 1.6) result = thin(points, t);
  return result;
}

const side = (p, q, r) => (q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0]);

/** Where segments pq and rs cross, null if they do not. */
function crossing(p, q, r, s) {
  const a = side(p, q, r);
  const b = side(p, q, s);
  const c = side(r, s, p);
  const d = side(r, s, q);
  if (a * b >= 0 || c * d >= 0) return null;
  const t = c / (c - d);
  return [p[0] + t * (q[0] - p[0]), p[1] + t * (q[1] - p[1])];
}

/**
 * A hand that closes a loop runs past its beginning: cut both loose ends where they cross.
 * Only crossings of the first with the last quarter count as such.
 */
export function trimOvershoot(points) {
  const n = points.length;
  const quarter = Math.floor(n / 4);
  for (let i = 0; i < quarter; i += 1) {
    for (let j = n - 2; j >= n - 1 - quarter && j > i + 1; j -= 1) {
      const at = crossing(points[i], points[i + 1], points[j], points[j + 1]);
      if (at) return [at, ...points.slice(i + 1, j + 1)];
    }
  }
  return points;
}

/** Whether the ring's outline crosses itself. */
export function crossesItself(ring) {
  const n = ring.length;
  for (let i = 0; i < n; i += 1) {
    for (let j = i + 2; j < n; j += 1) {
      if (i === 0 && j === n - 1) continue;
      if (crossing(ring[i], ring[i + 1], ring[j], ring[(j + 1) % n])) return true;
    }
  }
  return false;
}

export function ringArea(ring) {
  let twice = 0;
  ring.forEach(([x, y], i) => {
    const [nextX, nextY] = ring[(i + 1) % ring.length];
    twice += x * nextY - nextX * y;
  });
  return Math.abs(twice) / 2;
}

function inRing([x, y], ring) {
  let inside = false;
  for (let i = 0, j = ring.length - 1; i < ring.length; j = i, i += 1) {
    const [xi, yi] = ring[i];
    const [xj, yj] = ring[j];
    if (yi > y !== yj > y && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) inside = !inside;
  }
  return inside;
}

/** Rings of a GeoJSON geometry: one list of rings per polygon, outer ring first. */
export function polygonsOf(geometry) {
  if (!geometry) return [];
  return geometry.type === 'MultiPolygon' ? geometry.coordinates : [geometry.coordinates];
}

export function inGeometry(point, geometry) {
  return polygonsOf(geometry).some(([outer, ...holes]) => inRing(point, outer) && !holes.some((hole) => inRing(point, hole)));
}
