// Licences: what is installed, and what ends soon.
import { h, say, mark, Rows, table, cells, card, READING } from './dom.js';
import { NO_LICENCE, SOON, number, plural, setting, expires, days, dayIn } from './format.js';
import { get } from './api.js';

const EVERY = 15_000;
const SHOWN = 500;

function lineRow(app) {
  const [feature, version, count, ends, starts, state, life, serial, file, vendor] = cells(
    '', 'Version', ['Seats', 'num'], ['Ends', 'ends'], 'Starts', 'State', ['Lifespan + grace', 'num'], 'Serial', 'Licence', 'Vendor');
  feature.className = 'first';
  return {
    el: h('tr', null, feature, version, count, ends, starts, state, life, serial, file, vendor),
    update({ licence, line }) {
      const e = expires(line.expiry, app.frame?.status.calendar, line.lineage?.tz);
      say(feature, line.feature);
      mark(feature, 'title', line.feature);
      say(version, line.version || 'any');
      say(count, line.count ? number(line.count) : 'not counted');
      say(ends, e.text);
      mark(ends, 'data-level', e.level);
      say(starts, line.start ? dayIn(Date.parse(line.start), line.lineage?.tz) : '–');
      say(state, (line.state || '–').replaceAll('_', ' '));
      mark(state, 'data-level', line.state === 'expired' ? 'bad' : line.state === 'not_started' ? 'warn' : null);
      say(life, `${setting(line.lifespan_ms)} + ${setting(line.grace_ms)}`);
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
  const filter = h('input', { type: 'search', placeholder: 'Filter lines', 'aria-label': 'Filter licence lines', autocomplete: 'off', spellcheck: 'false', maxlength: '120',
    on: { input: () => { app.address('licences', { filter: filter.value.trim() }); draw(); } } });
  let lines = null;
  let installed = 0;
  let tick = 0;

  function draw() {
    if (!lines) return;
    const now = app.frame?.status.calendar;
    const text = filter.value.trim().toLowerCase();
    const meant = lines.filter(({ licence, line }) => !text || `${line.feature} ${line.version} ${line.serial} ${licence.id} ${licence.vendor} ${line.state}`.toLowerCase().includes(text));
    rows.set(meant.slice(0, SHOWN));
    t.el.hidden = !meant.length;
    filter.hidden = !lines.length;
    const left = lines.map((x) => days(x.line.expiry, now));
    const ended = left.filter((n) => n < 0).length;
    const soon = left.filter((n) => n >= 0 && n < SOON).length;
    say(count, [installed && `${number(installed)} installed`, ended && `${plural(ended, 'line has', 'lines have')} expired`, soon && `${plural(soon, 'line ends', 'lines end')} within ${SOON} days`].filter(Boolean).join(' · '));
    say(note, meant.length > SHOWN ? `${number(meant.length - SHOWN)} more end later: filter to see them`
      : meant.length ? '' : lines.length ? 'No line is like that.' : NO_LICENCE);
    mark(note, 'class', 'empty');
    note.hidden = !note.textContent;
  }

  async function load() {
    if (!app.frame) return;
    if (!app.has('/v1/licenses')) {
      say(note, app.notFor('licences'));
      t.el.hidden = filter.hidden = true;
      return;
    }
    try {
      const { licenses: list = [] } = await get('/v1/licenses', { tenant: app.tenant });
      const now = app.frame?.status.calendar;
      installed = list.length;
      lines = list.flatMap((licence) => licence.features.map((line, n) => ({ licence, line, number: n })))
        .sort((a, b) => days(a.line.expiry, now) - days(b.line.expiry, now) || a.line.feature.localeCompare(b.line.feature));
      draw();
    } catch (err) {
      if (err.status === 401) { app.signIn(err); return; }
      say(note, `${lines ? 'As it was before' : 'Not shown now'}: ${err.message}`);
      mark(note, 'class', 'empty error');
      note.hidden = false;
    }
  }
  return {
    el: h('div', null, h('h1', { class: 'unseen', text: 'Licences' }),
      card('Licences', h('div', { class: 'tools' }, count, filter), t.el, note)),
    show(params) {
      filter.value = params.get('filter') ?? '';
      draw();
      load();
      clearInterval(tick);
      tick = setInterval(() => { if (!document.hidden) load(); }, EVERY);
    },
    hide() { clearInterval(tick); },
    update() { if (!lines) load(); },
  };
}
