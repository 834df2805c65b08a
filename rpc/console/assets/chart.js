// Plots: steps in inline SVG, because seats are taken and given back at once.
import { s, h, say, mark } from './dom.js';
import { hour, minute, number } from './format.js';

const W = 600;
const H = 100;

function steps(points, from, until, top) {
  const x = (t) => Math.round(((Math.max(t, from) - from) / Math.max(1, until - from)) * W * 10) / 10;
  const y = (n) => Math.round((H - (n / top) * H) * 10) / 10;
  const line = (field) => {
    let path = '';
    points.forEach((p, i) => { path += i ? `H${x(p.t)}V${y(p[field])}` : `M${x(p.t)} ${y(p[field])}`; });
    return points.length ? `${path}H${W}` : '';
  };
  const used = line('used');
  return { used, area: used && `${used}V${H}H${x(points[0].t)}Z`, total: line('total') };
}

// spark is a plot without words, for a table.
export function spark() {
  const area = s('path', { class: 'area' });
  const line = s('path', { class: 'line' });
  const el = s('svg', { class: 'spark', viewBox: `0 -3 ${W} ${H + 6}`, preserveAspectRatio: 'none', 'aria-hidden': 'true' }, area, line);
  return {
    el,
    update(points, from, until, total) {
      const p = steps(points, from, until, Math.max(1, total, ...points.map((q) => q.used)));
      mark(area, 'd', p.area || null);
      mark(line, 'd', p.used || null);
    },
  };
}

// plot is one with a scale, a title and a sentence for those who cannot see it.
export function plot(title, note) {
  const area = s('path', { class: 'area' });
  const line = s('path', { class: 'line' });
  const total = s('path', { class: 'total' });
  const svg = s('svg', { viewBox: `0 -2 ${W} ${H + 4}`, preserveAspectRatio: 'none', role: 'img' },
    s('path', { class: 'grid', d: `M0 0H${W}M0 ${H / 2}H${W}M0 ${H}H${W}` }), area, total, line);
  const top = h('span', { class: 'top' });
  const zero = h('span', { class: 'zero', text: '0' });
  const now = h('span', { class: 'now num' });
  const [begin, middle, end] = [h('span'), h('span'), h('span')];
  const el = h('figure', { class: 'plot' },
    h('figcaption', null, h('strong', { text: title }), h('span', { class: 'muted', text: note }), now),
    h('div', { class: 'pad' }, top, zero, svg), h('div', { class: 'axis', 'aria-hidden': 'true' }, begin, middle, end));
  return {
    el,
    update(points, from, until) {
      const last = points.at(-1) ?? { used: 0, total: 0 };
      const peak = Math.max(0, ...points.map((p) => p.used));
      const most = Math.max(1, peak, ...points.map((p) => p.total));
      const p = steps(points, from, until, most);
      mark(area, 'd', p.area || null);
      mark(line, 'd', p.used || null);
      mark(total, 'd', p.total || null);
      mark(svg, 'aria-label', `${title}: ${last.used} of ${last.total} seats in use now, ${peak} at most since ${hour(from)}`);
      say(top, number(most));
      say(now, `${number(last.used)} of ${number(last.total)}, peak ${number(peak)}`);
      const at = until - from < 600e3 ? minute : hour;
      say(begin, at(from));
      say(middle, at((from + until) / 2));
      say(end, at(until));
    },
  };
}
