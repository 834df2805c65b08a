// The last hours of each pool: what the cluster's records tell, where it keeps them, and
// what the page has seen since it was opened, as steps, so a quiet day costs two points.

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

  // told keeps what the cluster says of the time before: most seats in use in each step.
  // from is a day ago, or when the cluster began.
  told(points, from, complete) {
    this.from = from;
    this.complete = complete;
    this.before = new Map();
    for (const p of points) {
      const key = `${p.tenant}\u0000${p.feature}`;
      if (!this.before.has(key)) this.before.set(key, []);
      this.before.get(key).push({ t: Date.parse(p.start), used: p.peak });
    }
  }

  // day is a pool's last hours: what the cluster told, then what was seen here. alone says
  // that no other pool has the feature: the cluster adds those up.
  day(pool, alone) {
    const seen = this.points(poolKey(pool));
    if (!this.before || !alone) return { points: seen, from: this.from ?? this.since, until: this.until };
    const told = (this.before.get(`${pool.tenant}\u0000${pool.feature}`) ?? [{ t: this.from, used: 0 }])
      .filter((p) => p.t < this.since).map((p) => ({ ...p, total: pool.total }));
    return { points: [...told, ...seen], from: this.from, until: this.until };
  }
}
