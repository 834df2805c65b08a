// Overview: the three answers, then each pool, then the day.
import { h, say, mark, Rows, Order, table, cells, card, READING } from './dom.js';
import { NO_LICENCE, number, nodeName, plural, expires, days } from './format.js';
import { judge, free, counted } from './verdict.js';
import { poolKey } from './history.js';
import { spark, plot } from './chart.js';

const SHOWN = 100; // pools in the table at once
const PLOTS = 8;
const FOUND = 5; // findings before one asks for all

function tile(label) {
  const value = h('p', { class: 'value' });
  const more = h('p', { class: 'muted', text: READING });
  const el = h('section', { class: 'tile', 'aria-label': label }, h('h2', { text: label }), value, more);
  return { el, value, more };
}

// bar shows used, expiring and reserved parts of a total.
export function bar() {
  const used = h('i', { class: 'used' });
  const late = h('i', { class: 'late' });
  const kept = h('i', { class: 'kept' });
  const el = h('span', { class: 'bar', role: 'img' }, used, late, kept);
  return {
    el,
    update(p) {
      const total = Math.max(p.total, p.in_use + p.reserved, 1);
      const lateShare = Math.min(p.expiring ?? 0, p.in_use);
      used.style.width = `${((p.in_use - lateShare) / total) * 100}%`;
      late.style.width = `${(lateShare / total) * 100}%`;
      kept.style.width = `${(p.reserved / total) * 100}%`;
      el.hidden = Boolean(p.uncounted);
      mark(el, 'data-full', free(p) === 0 && p.total > 0);
      mark(el, 'aria-label', `${p.in_use} of ${p.total} in use, ${p.reserved} reserved, ${free(p)} free`);
    },
  };
}

function poolRow(app) {
  const [feature, use, inUse, freeCell, waiting, kept, day, ends] = cells('', ['Share in use', 'wide'], ['In use', 'num'], ['Free', 'num strong'], ['Queued', 'num'], ['Reserved', 'num'], ['Today', 'day'], ['Licence ends', 'ends']);
  feature.className = 'first';
  const link = h('a');
  const more = h('span', { class: 'muted' });
  feature.append(link, ' ', more);
  const b = bar();
  use.append(b.el);
  const line = spark();
  day.append(line.el);
  return {
    el: h('tr', null, feature, use, inUse, freeCell, waiting, kept, day, ends),
    update(p) {
      say(link, p.feature);
      mark(feature, 'title', `${p.feature} ${p.version}`);
      mark(link, 'href', `#allocations?feature=${encodeURIComponent(p.feature)}`);
      say(more, [p.version, p.vendor, p.tenant === 'default' ? '' : p.tenant].filter(Boolean).join(' · '));
      b.update(p);
      say(inUse, p.uncounted ? `${number(p.in_use)}, not counted` : `${number(p.in_use)} of ${number(p.total)}`);
      say(freeCell, counted(p) ? number(free(p)) : '–');
      mark(freeCell, 'data-level', counted(p) && free(p) === 0 ? 'warn' : null);
      say(waiting, p.queued ? number(p.queued) : '–');
      say(kept, p.reserved ? number(p.reserved) : '–');
      mark(kept, 'title', (p.reserved_for ?? []).map((r) => `${r.seats} for ${r.who_type} ${r.who}`).join(', ') || null);
      const e = expires(p.expiry, app.frame.status.calendar);
      say(ends, p.total || p.expiry ? e.text : 'none valid now');
      mark(ends, 'data-level', e.level);
      const { points, from, until } = app.day(p);
      line.update(points, from, until, p.total);
    },
  };
}

const LEVELS = { bad: 'Urgent', warn: 'Warning', note: 'Note' };

function finding() {
  const level = h('span', { class: 'level' });
  const link = h('a');
  const remedy = h('span', { class: 'muted' });
  const el = h('li', null, level, link, remedy);
  return {
    el,
    update(f) {
      say(level, LEVELS[f.level]);
      say(link, f.text);
      mark(link, 'href', `#${f.to}`);
      say(remedy, f.remedy);
      mark(el, 'data-level', f.level);
    },
  };
}

// findings lists what is wrong and what to do about it, the worst first.
function findings() {
  const list = h('ul', { class: 'findings' });
  const rows = new Rows(list, (f) => f.text, finding);
  let whole = false;
  const more = h('button', { type: 'button', class: 'quiet', on: { click: () => { whole = !whole; draw(); } } });
  const el = card('To look at', null, list, h('div', { class: 'more' }, more));
  el.hidden = true;
  let found = [];
  function draw() {
    const rest = found.length - FOUND;
    rows.set(whole ? found : found.slice(0, FOUND));
    el.hidden = !found.length;
    more.parentElement.hidden = rest <= 0;
    say(more, whole ? 'Show fewer' : `Show ${number(rest)} more`);
    mark(more, 'aria-expanded', String(whole));
  }
  return { el, update(list) { found = list; draw(); } };
}

// ORDER is what the table of pools can be sorted by.
const ORDER = {
  feature: (p) => `${p.feature} ${p.version}`,
  use: (p) => (counted(p) ? p.in_use / p.total : -1),
  seats: (p) => p.in_use,
  free: (p) => (counted(p) ? free(p) : Infinity),
  queued: (p) => p.queued,
  kept: (p) => p.reserved,
  ends: (p) => days(p.expiry, null),
};

function nodeChip() {
  const el = h('li');
  return {
    el,
    update(n) {
      say(el, `${nodeName(n.id)}${n.role === 'follower' ? '' : ` ${n.role}`}`);
      mark(el, 'data-role', n.role);
    },
  };
}

export function overview(app) {
  const leader = tile('Leader');
  const seats = tile('Seats free');
  const state = tile('Anything wrong?');
  const chips = h('ul', { class: 'chips', 'aria-label': 'Nodes' });
  leader.el.append(chips);
  const nodes = new Rows(chips, (n) => n.id, nodeChip);
  const all = bar();
  seats.el.append(all.el);
  const look = findings();

  const order = new Order(ORDER);
  const filter = h('input', { type: 'search', placeholder: 'Filter features', 'aria-label': 'Filter features', autocomplete: 'off', spellcheck: 'false', maxlength: '120', on: { input: changed } });
  const pools = table('Seats for each feature', [['Feature', '', 'feature'], ['Share in use', 'wide', 'use'], ['In use', 'num', 'seats'], ['Free', 'num', 'free'],
    ['Queued', 'num', 'queued'], ['Reserved', 'num', 'kept'], ['Today', 'day'], ['Licence ends', '', 'ends']], (by) => { order.choose(by); changed(); });
  const rows = new Rows(pools.body, poolKey, () => poolRow(app));
  const rest = h('p', { class: 'empty', role: 'status', text: READING });
  const plots = h('div', { class: 'plots' });
  const curves = new Rows(plots, poolKey, (p) => {
    const c = plot(p.feature, p.version);
    return { el: c.el, update(q) { const d = app.day(q); c.update(d.points, d.from, d.until); } };
  });
  const source = h('span', { class: 'muted' });
  const none = h('p', { class: 'empty', text: READING });
  const legend = h('p', { class: 'legend muted', 'aria-hidden': 'true', hidden: true }, h('i', { class: 'used' }), 'seats in use', h('i', { class: 'total' }), 'seats licensed');

  function changed() {
    app.address('overview', { filter: filter.value.trim(), ...order.params() });
    if (app.frame) update();
  }

  function update() {
    const st = app.frame.status;
    const wrong = judge(app.frame);
    const away = st.nodes.filter((n) => n.role === 'unreachable').length;
    say(leader.value, app.frame.stale || !st.leader ? 'none' : nodeName(st.leader));
    mark(leader.value, 'data-level', app.frame.stale || !st.leader ? 'bad' : null);
    const all = st.nodes.length === 1 ? 'the one node answers' : `all ${number(st.nodes.length)} nodes answer`;
    say(leader.more, `${away ? `${number(st.nodes.length - away)} of ${plural(st.nodes.length, 'node')} answer` : all} · epoch ${number(st.epoch)} · entry ${number(st.raft_index)}`);
    nodes.set(st.nodes);
    drawSeats(st);

    const level = wrong[0]?.level ?? 'ok';
    const serious = wrong.filter((f) => f.level !== 'note').length;
    say(state.value, serious ? plural(serious, 'thing') : 'No');
    mark(state.value, 'data-level', level === 'note' ? 'ok' : level);
    say(state.more, serious ? wrong[0].text : 'All nodes agree, seats are free, licences run.');
    if (app.link === 'lost') { // nobody may read "No" off a page that hears nothing
      say(state.value, 'Not known');
      mark(state.value, 'data-level', 'bad');
      say(state.more, 'This node does not answer; below is what it said last.');
    }
    look.update(wrong);
    drawPools(st);
  }

  function drawSeats(st) {
    const able = st.pools.filter(counted);
    const sum = (field) => able.reduce((n, p) => n + p[field], 0);
    const total = { total: sum('total'), in_use: sum('in_use'), reserved: sum('reserved'), expiring: sum('expiring') };
    const open = able.reduce((n, p) => n + free(p), 0);
    say(seats.value, able.length ? number(open) : '–');
    mark(seats.value, 'data-level', able.length && !open ? 'warn' : null);
    const full = able.filter((p) => free(p) === 0).length;
    say(seats.more, able.length
      ? `of ${number(total.total)} · ${number(total.in_use)} in use · ${plural(st.leases, 'lease')}${full ? ` · ${plural(full, 'feature')} full` : ''}`
      : NO_LICENCE);
    all.update(total);
    all.el.hidden = !able.length;
  }

  function drawPools(st) {
    const text = filter.value.trim().toLowerCase();
    const meant = st.pools.filter((p) => !text || `${p.feature} ${p.version} ${p.vendor}`.toLowerCase().includes(text));
    rows.set(order.of(meant).slice(0, SHOWN));
    pools.arrow(order);
    pools.el.hidden = !meant.length;
    filter.hidden = !st.pools.length;
    say(rest, meant.length > SHOWN ? `${number(meant.length - SHOWN)} more: filter to see them`
      : meant.length ? '' : st.pools.length ? `No feature has “${filter.value.trim()}” in its name.` : NO_LICENCE);
    rest.hidden = !rest.textContent;
    // The fullest, but in the order of their names: a plot must not move while one reads it.
    const fullest = new Set(meant.filter(counted).sort((a, b) => b.in_use / b.total - a.in_use / a.total || b.in_use - a.in_use).slice(0, PLOTS));
    curves.set(meant.filter((p) => fullest.has(p)));
    say(none, st.pools.length ? 'No seats are counted here.' : 'Here stands how many seats were in use, once there is a licence.');
    none.hidden = plots.childElementCount > 0;
    legend.hidden = !none.hidden;
    say(source, app.daySource());
  }

  return {
    el: h('div', null,
      h('h1', { class: 'unseen', text: 'Overview' }),
      h('div', { class: 'tiles' }, leader.el, seats.el, state.el),
      look.el,
      card('Seats', filter, pools.el, rest),
      card('Over the day', source, legend, plots, none)),
    show(params) {
      filter.value = params.get('filter') ?? '';
      order.set(params.get('by') ?? '', params.get('turned'));
    },
    update,
  };
}

