// Queue, bookings, denials and policy: shown when the API has them.
import { h, say, mark, Rows, table, card, READING } from './dom.js';
import { number, span, visible, when } from './format.js';
import { get } from './api.js';

const EVERY = 3000;

// text makes any value of the API a short text.
function text(name, v) {
  if (v === null || v === undefined || v === '') return '–';
  if (Array.isArray(v)) return v.map((x) => text('', x)).join(', ') || '–';
  if (typeof v === 'object') return Object.entries(v).filter(([, x]) => x !== '' && x !== 0).map(([k, x]) => `${k} ${text(k, x)}`).join(', ') || '–';
  if (typeof v === 'boolean') return v ? 'yes' : 'no';
  if (typeof v === 'number') return number(v);
  return /^\d{4}-\d\d-\d\dT/.test(v) ? when(v) : visible(v);
}

// listing is a table of what one path answers, with the columns that are named first and
// only those that any row fills.
function listing(app, { title, path, params, field, of, columns, none, row, newest }) {
  const note = h('p', { class: 'empty', role: 'status', text: READING });
  const place = h('div');
  const el = card(title, null, place, note);
  let t = null;
  let rows = null;
  let shown = '';
  function draw(items) {
    const cols = columns.filter(([name]) => items.some((x) => x[name] !== undefined && x[name] !== '' && x[name] !== 0 && x[name] !== false));
    const key = cols.map(([name]) => name).join();
    if (key !== shown || !t) {
      shown = key;
      t = table(title, cols.map(([, label]) => label));
      place.replaceChildren(t.el);
      rows = new Rows(t.body, (x) => x.key, () => {
        const tds = cols.map(([, label], i) => h('td', { 'data-label': i ? label : '', class: i ? null : 'first' }));
        return { el: h('tr', null, tds), update({ item }) { cols.forEach(([name], i) => { say(tds[i], text(name, item[name])); mark(tds[i], 'title', tds[i].textContent); }); } };
      });
    }
    rows.set(items.map((item, i) => ({ item, key: item.id ?? item.index ?? i })));
    place.hidden = !items.length;
  }
  return {
    el,
    async load() {
      el.hidden = !app.has(path);
      if (el.hidden) return false;
      try {
        const body = await get(path, { ...params, tenant: app.tenant });
        const list = (of ? of(body) : body[field] ?? []).map(row);
        if (newest) list.reverse();
        draw(list);
        say(note, list.length ? '' : none);
      } catch (err) {
        if (err.status === 401) app.signIn(err);
        else say(note, `Not shown now: ${err.message}`);
      }
      note.hidden = !note.textContent;
      return true;
    },
  };
}

function page(app, title, lists, missing) {
  const none = h('p', { class: 'empty', text: missing, hidden: true });
  none.classList.add('card');
  let tick = 0;
  let drawn = false; // not before the first frame says what there is
  const load = async () => {
    if (!app.frame) return;
    const there = await Promise.all(lists.map((l) => l.load()));
    none.hidden = there.some(Boolean);
  };
  return {
    el: h('div', null, h('h1', { class: 'unseen', text: title }), lists.map((l) => l.el), none),
    show() { load(); clearInterval(tick); tick = setInterval(() => { if (!document.hidden) load(); }, EVERY); },
    hide() { clearInterval(tick); },
    update() { if (!drawn) { drawn = true; load(); } },
  };
}

export function waiting(app) {
  return page(app, 'Queue and denials', [
    listing(app, { title: 'Queue', path: '/v1/queue', field: 'places', none: 'Nobody waits.',
      columns: [['asked', 'Feature'], ['position', 'Position'], ['user', 'User'], ['host', 'Host'], ['priority', 'Priority'], ['since', 'Since'], ['left', 'Gives up in'], ['booking', 'Job']],
      row: (p) => ({ ...p, id: p.ticket, asked: items(p.items), left: span(p.remaining_ms) }) }),
    listing(app, { title: 'Bookings', path: '/v1/bookings', field: 'bookings', none: 'Nothing is booked.',
      columns: [['asked', 'Feature'], ['id', 'Job'], ['taken', 'Taken'], ['user', 'User'], ['host', 'Host'], ['project', 'Project'], ['by', 'By'], ['since', 'Since'], ['left', 'Ends in']],
      row: (b) => ({ ...b, asked: items(b.items), taken: b.items.map((x) => `${x.used} of ${x.count}`).join(', '), left: span(Number(b.remaining_ms)) }) }),
    listing(app, { title: 'Denials', path: '/v1/denials', params: { page_size: 200 }, field: 'denials', none: 'Nobody was refused.', newest: true,
      columns: [['feature', 'Feature'], ['time', 'Time'], ['count', 'Seats'], ['user', 'User'], ['host', 'Host'], ['reason', 'Reason'], ['final', 'Final'], ['served', 'Got it at']],
      row: (d) => ({ ...d, id: `${d.time} ${d.session_id} ${d.feature} ${d.reason}` }) }),
  ], 'This server has no queue and no list of denials.');
}

const items = (list) => list.map((x) => `${x.count > 1 ? `${x.count} × ` : ''}${x.feature} ${x.version}`.trim()).join(', ');

// value says what a rule sets, in its own unit.
function value(r) {
  const time = Number(r.time_ms) ? span(Number(r.time_ms)) : '';
  if (r.kind === 'max_borrow_hours') return `${number(r.seats)} h`;
  if (Number(r.grace_ms)) return `${time} + ${span(Number(r.grace_ms))}`;
  return time || (r.seats ? number(r.seats) : '');
}

export function policy(app) {
  return page(app, 'Policy', [
    listing(app, { title: 'Rules', path: '/v1/policy', of: (body) => body.policy?.rules ?? [], none: 'No policy: everybody may use all there is.',
      columns: [['kind', 'Rule'], ['feature', 'Feature'], ['whom', 'For'], ['value', 'Value']],
      row: (r) => ({ ...r, kind: r.kind.replaceAll('_', ' '), feature: r.feature || 'all', whom: r.who_type ? `${r.who_type.replaceAll('_', ' ')} ${r.who}` : 'everybody', value: value(r) }) }),
    listing(app, { title: 'Groups', path: '/v1/policy', of: (body) => body.policy?.groups ?? [], none: 'No group.',
      columns: [['name', 'Group'], ['kind', 'Of'], ['priority', 'Priority'], ['members', 'Members']],
      row: (g) => ({ ...g, id: `${g.hosts} ${g.name}`, kind: g.hosts ? 'hosts' : 'users' }) }),
  ], 'This server has no policy.');
}
