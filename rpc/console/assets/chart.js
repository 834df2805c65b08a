// Plots: steps in inline SVG, because seats are taken and given back at once. Scales, marks
// and what the pointer is at are HTML over it, so that no letter is stretched.
import { s, h, say, mark } from './dom.js';
import { moment, hour, minute, number } from './format.js';

const W = 600;
const H = 100;
const MARKS = 5; // at most, of times below a plot
const STRIDES = [10, 30, 60, 300, 600, 1800, 3600, 7200, 10_800, 21_600, 43_200].map((sec) => sec * 1000);
const KEYS = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -6, PageUp: 6, Home: -48, End: 48 };
const KEY_STEP = 1 / 48; // half an hour of a day

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

// marks are round times of the viewer's clock between two times, as shares of the way.
function marks(from, until) {
  const width = until - from;
  const stride = STRIDES.find((x) => width / x <= MARKS) ?? 86400e3;
  const shift = new Date(until).getTimezoneOffset() * 60e3;
  const out = [];
  for (let t = Math.ceil((from - shift) / stride) * stride + shift; t <= until; t += stride) {
    out.push({ at: (t - from) / Math.max(1, width), text: (stride < 60e3 ? minute : hour)(t) });
  }
  return out;
}

// place puts words below or over a plot at a share of its width; CSS does the rest.
const place = (el, share) => el.style.setProperty('--at', share.toFixed(4));

// plot is one with scales, a title, what the pointer or the arrow keys are at, and a
// sentence for those who cannot see it.
export function plot(title, note) {
  const area = s('path', { class: 'area' });
  const line = s('path', { class: 'line' });
  const total = s('path', { class: 'total' });
  const svg = s('svg', { viewBox: `0 0 ${W} ${H}`, preserveAspectRatio: 'none', 'aria-hidden': 'true' },
    s('path', { class: 'grid', d: `M0 0H${W}M0 ${H / 2}H${W}M0 ${H}H${W}` }), area, total, line);
  const scale = ['top', 'half', 'zero'].map((kind) => h('span', { class: kind, 'aria-hidden': 'true' }));
  const now = h('span', { class: 'now num' });
  const cursor = h('i', { class: 'cursor', hidden: true });
  const tip = h('span', { class: 'tip num', hidden: true });
  const axis = h('div', { class: 'axis', 'aria-hidden': 'true' });
  const field = h('div', { class: 'field', tabindex: '0', role: 'slider', 'aria-roledescription': 'plot', 'aria-valuemin': '0', 'aria-valuemax': '100' }, svg, cursor, tip);
  const el = h('figure', { class: 'plot' },
    h('figcaption', null, h('strong', { text: title, title }), h('span', { class: 'muted', text: note }), now), h('div', { class: 'pad' }, scale, field), axis);
  let shown = { points: [], from: 0, until: 1 };
  let at = null; // share of the width, or null

  function point() {
    const { points, from, until } = shown;
    const share = at ?? 1;
    const t = from + share * (until - from);
    const p = points.findLast((q) => q.t <= t);
    const text = `${moment(t, until - from)}: ${p ? `${number(p.used)} of ${number(p.total)} seats` : 'not known'}`;
    mark(field, 'aria-valuenow', Math.round(share * 100));
    mark(field, 'aria-valuetext', text);
    cursor.hidden = tip.hidden = at === null;
    if (at === null) return;
    say(tip, text);
    place(cursor, at);
    place(tip, at);
    mark(tip, 'data-side', at > 0.5 ? 'left' : 'right');
  }
  const move = (to) => { at = to === null ? null : Math.min(1, Math.max(0, to)); point(); };
  field.addEventListener('pointermove', (e) => { const r = field.getBoundingClientRect(); move((e.clientX - r.left) / Math.max(1, r.width)); });
  field.addEventListener('pointerdown', (e) => { const r = field.getBoundingClientRect(); move((e.clientX - r.left) / Math.max(1, r.width)); });
  field.addEventListener('pointerleave', () => move(null));
  field.addEventListener('blur', () => move(null));
  field.addEventListener('keydown', (e) => {
    if (e.key === 'Escape') { move(null); return; }
    if (!(e.key in KEYS)) return;
    e.preventDefault();
    move((at ?? 1) + KEYS[e.key] * KEY_STEP);
  });
  return {
    el,
    update(points, from, until) {
      shown = { points, from, until };
      const last = points.at(-1) ?? { used: 0, total: 0 };
      const peak = Math.max(0, ...points.map((p) => p.used));
      const most = Math.max(1, peak, ...points.map((p) => p.total));
      const p = steps(points, from, until, most);
      mark(area, 'd', p.area || null);
      mark(line, 'd', p.used || null);
      mark(total, 'd', p.total || null);
      mark(field, 'aria-label', `${title} ${note}: ${number(last.used)} of ${number(last.total)} seats in use now, ${number(peak)} at most since ${moment(from, until - from)}`);
      [most, most % 2 ? '' : most / 2, 0].forEach((n, i) => say(scale[i], n === '' ? '' : number(n)));
      say(now, `${number(last.used)} of ${number(last.total)}, peak ${number(peak)}`);
      const times = marks(from, until);
      while (axis.children.length > times.length) axis.lastElementChild.remove();
      while (axis.children.length < times.length) axis.append(h('span'));
      times.forEach((m, i) => { say(axis.children[i], m.text); place(axis.children[i], m.at); });
      point();
    },
  };
}
