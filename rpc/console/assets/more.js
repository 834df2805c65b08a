// Queue, bookings, denials and policy: shown when the API has them.
import { h, say, Rows, table, card, mark } from './dom.js';
import { number, when } from './format.js';
import { get } from './api.js';

const EVERY = 3000;

// show makes any value of the API a short text.
function text(name, v) {
  if (v === null || v === undefined || v === '') return '–';
  if (Array.isArray(v)) return v.map((x) => text('', x)).join(', ') || '–';
  if (typeof v === 'object') return Object.entries(v).filter(([, x]) => x !== '' && x !== 0).map(([k, x]) => `${k} ${text(k, x)}`).join(', ') || '–';
  if (typeof v === 'boolean') return v ? 'yes' : 'no';
  if (typeof v === 'number') return number(v);
  return /^\d{4}-\d\d-\d\dT/.test(v) ? when(v) : String(v);
}

// Listing is a table of what one path answers, with the columns that are named first and
// only those that any row fills.
function listing(app, title, path, field, columns, none) {
  const note = h('p', { class: 'empty' });
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
        return { el: h('tr', null, tds), update({ item }) { cols.forEach(([name], i) => say(tds[i], text(name, item[name]))); } };
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
        const body = await get(path, { tenant: app.tenant });
        const items = body[field] ?? [];
        draw(items);
        say(note, items.length ? '' : none);
      } catch (err) {
        if (err.status === 401) app.signIn(err);
        else say(note, `Not shown now: ${err.message}`);
      }
      note.hidden = !note.textContent;
      return true;
    },
  };
}

function page(title, lists, missing) {
  const none = h('p', { class: 'empty', text: missing, hidden: true });
  let tick = 0;
  const load = async () => {
    const there = await Promise.all(lists.map((l) => l.load()));
    none.hidden = there.some(Boolean);
  };
  return {
    el: h('div', null, h('h1', { class: 'unseen', text: title }), lists.map((l) => l.el), h('div', { class: 'card' }, none)),
    show() { load(); clearInterval(tick); tick = setInterval(() => { if (!document.hidden) load(); }, EVERY); },
    hide() { clearInterval(tick); },
    update() {},
    none, mark,
  };
}

export function waiting(app) {
  return page('Queue and denials', [
    listing(app, 'Queue', '/v1/queue', 'entries', [['feature', 'Feature'], ['position', 'Position'], ['count', 'Seats'], ['user', 'User'], ['host', 'Host'], ['since', 'Since'], ['deadline', 'Until']], 'Nobody waits.'),
    listing(app, 'Bookings', '/v1/bookings', 'bookings', [['feature', 'Feature'], ['count', 'Seats'], ['job', 'Job'], ['user', 'User'], ['until', 'Until']], 'Nothing is booked.'),
    listing(app, 'Denials', '/v1/denials', 'denials', [['time', 'Time'], ['feature', 'Feature'], ['count', 'Seats'], ['user', 'User'], ['host', 'Host'], ['reason', 'Reason'], ['final', 'Final']], 'Nobody was refused.'),
  ], 'This server has no queue and no list of denials.');
}

export function policy(app) {
  return page('Policy', [], 'This server has no policy.');
}
