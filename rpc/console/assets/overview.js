// Overview: the three answers, then each pool, then the day.
import { h, say, mark, Rows, table, cells, card, READING } from './dom.js';
import { number, nodeName, plural, expires } from './format.js';
import { judge, free, counted } from './verdict.js';
import { poolKey } from './history.js';
import { spark, plot } from './chart.js';

const SHOWN = 100; // pools in the table at once
const PLOTS = 8;


function tile(label) {
  const value = h('p', { class: 'value' });
  const more = h('p', { class: 'muted' });
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
  const [feature, use, inUse, freeCell, waiting, kept, day, ends] = cells('', ['In use', 'wide'], ['Seats', 'num'], ['Free', 'num strong'], ['Queued', 'num'], ['Reserved', 'num'], ['Today', 'day'], 'Licence ends');
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
      mark(link, 'href', `#allocations?feature=${encodeURIComponent(p.feature)}`);
      say(more, [p.version, p.vendor, p.tenant === 'default' ? '' : p.tenant].filter(Boolean).join(' · '));
      b.update(p);
      say(inUse, counted(p) ? `${number(p.in_use)} of ${number(p.total)}` : `${number(p.in_use)} (not counted)`);
      say(freeCell, counted(p) ? number(free(p)) : '–');
      mark(freeCell, 'data-level', counted(p) && free(p) === 0 ? 'warn' : null);
      say(waiting, p.queued ? number(p.queued) : '–');
      say(kept, p.reserved ? number(p.reserved) : '–');
      mark(kept, 'title', (p.reserved_for ?? []).map((r) => `${r.seats} for ${r.who_type} ${r.who}`).join(', ') || null);
      const e = expires(p.expiry, app.frame.status.calendar);
      say(ends, e.text);
      mark(ends, 'data-level', e.level);
      const { points, from, until } = app.day(p);
      line.update(points, from, until, p.total);
    },
  };
}

function finding() {
  const link = h('a');
  const el = h('li', null, link);
  return { el, update(f) { say(link, f.text); mark(link, 'href', `#${f.to}`); mark(el, 'data-level', f.level); } };
}

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
  const list = h('ul', { class: 'findings' });
  state.el.append(list);
  const findings = new Rows(list, (f) => f.text, finding);

  const filter = h('input', { type: 'search', placeholder: 'Filter features', 'aria-label': 'Filter features', autocomplete: 'off', on: { input: () => app.frame && update() } });
  const pools = table('Seats for each feature', ['Feature', ['In use', 'wide'], ['Seats', 'num'], ['Free', 'num'], ['Queued', 'num'], ['Reserved', 'num'], ['Today', 'day'], 'Licence ends']);
  const rows = new Rows(pools.body, poolKey, () => poolRow(app));
  const rest = h('p', { class: 'empty', role: 'status', text: READING });
  const plots = h('div', { class: 'plots' });
  const curves = new Rows(plots, poolKey, (p) => {
    const c = plot(p.feature, p.version);
    return { el: c.el, update(q) { const d = app.day(q); c.update(d.points, d.from, d.until); } };
  });
  const source = h('span', { class: 'muted' });

  function update() {
    const st = app.frame.status;
    const wrong = judge(app.frame);
    const away = st.nodes.filter((n) => n.role === 'unreachable').length;
    say(leader.value, app.frame.stale || !st.leader ? 'none' : nodeName(st.leader));
    mark(leader.value, 'data-level', app.frame.stale || !st.leader ? 'bad' : null);
    say(leader.more, `${away ? `${st.nodes.length - away} of ${st.nodes.length} nodes answer` : `all ${plural(st.nodes.length, 'node')} answer`} · epoch ${number(st.epoch)} · entry ${number(st.raft_index)}`);
    nodes.set(st.nodes);

    const able = st.pools.filter(counted);
    const sum = (field) => able.reduce((n, p) => n + p[field], 0);
    const total = { total: sum('total'), in_use: sum('in_use'), reserved: sum('reserved'), expiring: sum('expiring') };
    const open = able.reduce((n, p) => n + free(p), 0);
    say(seats.value, able.length ? number(open) : '–');
    mark(seats.value, 'data-level', able.length && !open ? 'warn' : null);
    const full = able.filter((p) => free(p) === 0).length;
    say(seats.more, able.length
      ? `of ${number(total.total)} · ${number(total.in_use)} in use by ${plural(st.leases, 'lease')}${full ? ` · ${plural(full, 'feature')} full` : ''}`
      : 'No licence is installed: seatkeeper license apply FILE');
    all.update(total);

    const level = wrong[0]?.level ?? 'ok';
    const serious = wrong.filter((f) => f.level !== 'note').length;
    say(state.value, serious ? plural(serious, 'thing') : 'No');
    mark(state.value, 'data-level', level === 'note' ? 'ok' : level);
    say(state.more, serious ? 'to look at:' : 'All nodes agree, seats are free, licences run.');
    findings.set(wrong.slice(0, 6));

    const text = filter.value.trim().toLowerCase();
    const meant = st.pools.filter((p) => !text || `${p.feature} ${p.version} ${p.vendor}`.toLowerCase().includes(text));
    rows.set(meant.slice(0, SHOWN));
    say(rest, meant.length > SHOWN ? `${number(meant.length - SHOWN)} more: filter to see them` : meant.length ? '' : 'No feature here.');
    rest.hidden = !rest.textContent;
    curves.set([...meant].filter(counted).sort((a, b) => b.in_use / b.total - a.in_use / a.total || b.in_use - a.in_use).slice(0, PLOTS));
    say(source, app.daySource());
  }

  return {
    el: h('div', null,
      h('h1', { class: 'unseen', text: 'Overview' }),
      h('div', { class: 'tiles' }, leader.el, seats.el, state.el),
      card('Seats', filter, pools.el, rest),
      card('Over the day', source, plots)),
    update,
  };
}

