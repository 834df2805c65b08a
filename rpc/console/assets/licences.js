// Licences: what is installed, and what ends soon.
import { h, say, mark, Rows, table, cells, card, READING } from './dom.js';
import { number, expires, days } from './format.js';
import { get } from './api.js';

const EVERY = 15_000;
const SHOWN = 500;

function lineRow(app) {
  const [feature, version, count, ends, starts, state, life, serial, file, vendor] = cells(
    '', 'Version', ['Seats', 'num'], 'Ends', 'Starts', 'State', ['Lifespan + grace', 'num'], 'Serial', 'Licence', 'Vendor');
  feature.className = 'first';
  return {
    el: h('tr', null, feature, version, count, ends, starts, state, life, serial, file, vendor),
    update({ licence, line }) {
      const e = expires(line.expiry, app.frame?.status.calendar);
      say(feature, line.feature);
      say(version, line.version || 'any');
      say(count, line.count ? number(line.count) : 'not counted');
      say(ends, e.text);
      mark(ends, 'data-level', e.level);
      say(starts, line.start ? line.start.slice(0, 10) : '–');
      say(state, (line.state || '–').replaceAll('_', ' '));
      mark(state, 'data-level', line.state === 'expired' ? 'bad' : line.state === 'not_started' ? 'warn' : null);
      say(life, `${line.lifespan_ms / 1000} s + ${line.grace_ms / 1000} s`);
      say(serial, line.serial || '–');
      say(file, licence.id);
      say(vendor, licence.vendor);
    },
  };
}

export function licences(app) {
  const t = table('Licence lines', ['Feature', 'Version', ['Seats', 'num'], 'Ends', 'Starts', 'State', ['Lifespan + grace', 'num'], 'Serial', 'Licence', 'Vendor']);
  const rows = new Rows(t.body, (x) => `${x.licence.tenant}\n${x.licence.id}\n${x.number}`, () => lineRow(app));
  const note = h('p', { class: 'empty', role: 'status', text: READING });
  const count = h('span', { class: 'muted' });
  let tick = 0;
  async function load() {
    try {
      const { licenses: list = [] } = await get('/v1/licenses', { tenant: app.tenant });
      const now = app.frame?.status.calendar;
      const lines = list.flatMap((licence) => licence.features.map((line, n) => ({ licence, line, number: n })))
        .sort((a, b) => days(a.line.expiry, now) - days(b.line.expiry, now) || a.line.feature.localeCompare(b.line.feature));
      rows.set(lines.slice(0, SHOWN));
      const soon = lines.filter((x) => days(x.line.expiry, now) < 30).length;
      say(count, `${number(list.length)} installed${soon ? ` · ${number(soon)} lines end within 30 days` : ''}`);
      say(note, lines.length > SHOWN ? `${number(lines.length - SHOWN)} more lines end later` : lines.length ? '' : 'No licence is installed: seatkeeper license apply FILE');
    } catch (err) {
      if (err.status === 401) { app.signIn(err); return; }
      say(note, `Not shown now: ${err.message}`);
    }
    note.hidden = !note.textContent;
  }
  return {
    el: h('div', null, h('h1', { class: 'unseen', text: 'Licences' }), card('Licences', count, t.el, note)),
    show() { load(); clearInterval(tick); tick = setInterval(() => { if (!document.hidden) load(); }, EVERY); },
    hide() { clearInterval(tick); },
    update() {},
  };
}
