// Queue, bookings, denials and policy: shown when the API has them.
import { h, say, mark, Rows, table, card, READING } from './dom.js';
import { minute, number, plural, setting, span, visible, when } from './format.js';
import { get } from './api.js';

const EVERY = 3000;
const MOST = 200; // rows of a list: more than a person reads

// REASONS says the common codes of a refusal in words; the code stands beside them.
const REASONS = {
  no_seats: 'no seat was free',
  no_feature: 'no licence has it',
  version: 'only older versions are licensed',
  license_expired: 'the licence has expired',
  not_started: 'the licence has not begun',
  excluded: 'excluded by the policy',
  not_included: 'not included by the policy',
  max_reached: 'a limit of the policy is reached',
  reserved_for_others: 'what is free is reserved',
  too_many_requested: 'more than there are',
  borrow_off: 'it may not be borrowed',
  borrow_none_left: 'no more may be borrowed',
  borrow_too_long: 'borrowed for too long',
  sessions_exceeded: 'too many sessions share it',
  overloaded: 'too many requests at once',
};

const reason = (code) => (REASONS[code] ? `${REASONS[code]} (${code})` : code);

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
function listing(app, { title, path, params, field, of, columns, none, noun, row, newest, old, rest }) {
  const count = h('span', { class: 'muted num' });
  const note = h('p', { class: 'empty', role: 'status', text: READING });
  const place = h('div');
  const el = card(title, count, place, note);
  let t = null;
  let rows = null;
  let shown = '';
  let seen = 0;
  function draw(items) {
    const cols = columns.filter(([name]) => items.some((x) => x[name] !== undefined && x[name] !== '' && x[name] !== 0 && x[name] !== false));
    const key = cols.map(([name]) => name).join();
    if (key !== shown || !t) {
      shown = key;
      t = table(title, cols.map(([, label]) => label));
      place.replaceChildren(t.el);
      rows = new Rows(t.body, (x) => x.key, () => {
        const tds = cols.map(([, label, kind], i) => h('td', { 'data-label': i ? label : '', class: i ? kind : 'first' }));
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
        const body = await get(path, { ...params, tenant: app.tenant, stale: old && app.frame.stale ? 'true' : '' });
        const list = (of ? of(body) : body[field] ?? []).map(row);
        if (newest) list.reverse();
        draw(list.slice(0, MOST));
        seen = Date.now();
        const more = body.truncated || list.length > MOST;
        say(count, list.length ? `${more ? (newest ? 'the newest ' : 'the first ') : ''}${plural(Math.min(list.length, MOST), noun)}` : '');
        say(note, !list.length ? none : more ? rest : '');
        mark(note, 'class', 'empty');
      } catch (err) {
        if (err.status === 401) { app.signIn(err); return true; }
        say(note, `${seen ? `As it was at ${minute(seen)}` : 'Not shown now'}: ${err.message}`);
        mark(note, 'class', 'empty error');
      }
      note.hidden = !note.textContent;
      return true;
    },
  };
}

function page(app, title, lists, missing) {
  const none = h('p', { class: 'empty', hidden: true });
  none.classList.add('card');
  let tick = 0;
  let drawn = false; // not before the first frame says what there is
  const load = async () => {
    if (!app.frame) return;
    const there = await Promise.all(lists.map((l) => l.load()));
    none.hidden = there.some(Boolean);
    say(none, app.notFor(missing));
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
    listing(app, { title: 'Queue', path: '/v1/queue', field: 'places', params: { limit: MOST + 1 }, old: true, noun: 'request', none: 'Nobody waits.', rest: 'More wait: seatkeeper queue lists them.',
      columns: [['asked', 'Feature'], ['position', 'Position'], ['user', 'User'], ['host', 'Host'], ['priority', 'Priority'], ['since', 'Since'], ['left', 'Gives up in'], ['booking', 'Job']],
      row: (p) => ({ ...p, id: p.ticket, asked: items(p.items), left: span(p.remaining_ms) }) }),
    listing(app, { title: 'Bookings', path: '/v1/bookings', field: 'bookings', params: { limit: MOST + 1 }, old: true, noun: 'booking', none: 'Nothing is booked.', rest: 'More is booked: seatkeeper booking list',
      columns: [['asked', 'Feature'], ['id', 'Job'], ['taken', 'Taken'], ['user', 'User'], ['host', 'Host'], ['project', 'Project'], ['by', 'By'], ['since', 'Since'], ['left', 'Ends in']],
      row: (b) => ({ ...b, asked: items(b.items), taken: b.items.map((x) => `${x.used} of ${x.count}`).join(', '), left: span(Number(b.remaining_ms)) }) }),
    listing(app, { title: 'Denials', path: '/v1/denials', params: { page_size: MOST }, field: 'denials', noun: 'denial', none: 'Nobody was refused.', newest: true, rest: 'Older ones: seatkeeper denials lists them.',
      columns: [['feature', 'Feature'], ['time', 'Time'], ['count', 'Seats'], ['user', 'User'], ['host', 'Host'], ['reason', 'Reason', 'text'], ['again', 'Asking again'], ['served', 'Got it at']],
      row: (d) => ({ ...d, reason: reason(d.reason), again: d.final ? 'does not help' : 'may help', id: `${d.time} ${d.session_id} ${d.feature} ${d.reason}` }) }),
  ], 'the queue and who was refused');
}

const items = (list) => list.map((x) => `${x.count > 1 ? `${x.count} × ` : ''}${x.feature} ${x.version}`.trim()).join(', ');

// value says what a rule sets, in its own unit.
function value(r) {
  const time = Number(r.time_ms) ? setting(Number(r.time_ms)) : '';
  if (r.kind === 'max_borrow_hours') return `${number(r.seats)} h`;
  if (r.kind === 'profile') return `lifespan ${time || '–'}, grace ${setting(Number(r.grace_ms))}`;
  return time || (r.seats ? plural(r.seats, 'seat') : '');
}

export function policy(app) {
  return page(app, 'Policy', [
    listing(app, { title: 'Rules', path: '/v1/policy', of: (body) => body.policy?.rules ?? [], noun: 'rule', rest: 'All of them: seatkeeper policy show', none: 'No policy: everybody may use all there is. Make one: seatkeeper policy apply FILE',
      columns: [['kind', 'Rule'], ['feature', 'Feature'], ['whom', 'For'], ['value', 'Value', 'text']],
      row: (r) => ({ ...r, kind: r.kind.replaceAll('_', ' '), feature: r.feature || 'all', whom: r.who_type ? `${r.who_type.replaceAll('_', ' ')} ${r.who}` : 'everybody', value: value(r) }) }),
    listing(app, { title: 'Groups', path: '/v1/policy', of: (body) => body.policy?.groups ?? [], noun: 'group', rest: 'All of them: seatkeeper policy show', none: 'No group.',
      columns: [['name', 'Group'], ['kind', 'Of'], ['priority', 'Priority'], ['members', 'Members', 'text']],
      row: (g) => ({ ...g, id: `${g.hosts} ${g.name}`, kind: g.hosts ? 'hosts' : 'users' }) }),
  ], 'the policy');
}
