// What the page has seen of each pool since it was opened: steps, so a quiet day costs
// two points.

const DAY = 86400e3;
const MOST = 3000; // points of one pool
const MOST_POOLS = 500;

export const poolKey = (p) => [p.tenant, p.vendor, p.feature, p.version].join('\u0000');

export class History {
  constructor() { Object.assign(this, { of: new Map(), since: Date.now(), until: Date.now() }); }

  // add notes one frame.
  add(pools, now = Date.now()) {
    this.until = now;
    for (const p of pools) {
      const key = poolKey(p);
      let points = this.of.get(key);
      if (!points) {
        if (this.of.size >= MOST_POOLS) continue;
        this.of.set(key, points = []);
      }
      const last = points.at(-1);
      if (!last || last.used !== p.in_use || last.total !== p.total) points.push({ t: now, used: p.in_use, total: p.total });
      while (points.length > 1 && (points[1].t < now - DAY || points.length > MOST)) points.shift();
    }
  }

  points(key) { return this.of.get(key) ?? []; }
}
