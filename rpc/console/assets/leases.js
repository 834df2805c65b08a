// Allocations: who holds what; search, filters and pages are the server's work.
import { h, say, mark, Rows, Order, table, cells, card, announce, READING } from './dom.js';
import { NO_LICENCE, minute, number, plural, span, when, visible, seats } from './format.js';
import { get, post } from './api.js';

const STATES = ['active', 'expiring', 'borrowed', 'lingering', 'quarantined'];
const SIZES = [50, 100, 250];
const EVERY = 3000; // between two looks at the page shown
const TYPING = 250; // after the last letter

// ORDER is what the rows of a page can be sorted by. The server's own order is that of its
// ledger; it pages by that, so a page is sorted by itself.
const ORDER = {
  feature: (l) => `${l.feature} ${l.version}`,
  user: (l) => l.user,
  host: (l) => l.host,
  display: (l) => l.display,
  seats: (l) => l.count,
  state: (l) => l.state,
  due: (l) => (l.until ? Date.parse(l.until) - Date.now() : l.remaining_ms),
  since: (l) => Date.parse(l.since),
  handle: (l) => l.handle,
};

function confirmKill(app) {
  const facts = h('dl');
  const warn = h('p', { class: 'muted' });
  const wrong = h('p', { class: 'error', role: 'alert' });
  const no = h('button', { type: 'button', text: 'Keep it' });
  const yes = h('button', { type: 'button', class: 'danger' });
  const title = h('h2', { id: 'kill-title' });
  const el = h('dialog', { 'aria-labelledby': 'kill-title', id: 'kill' }, title, facts, warn, wrong, h('div', { class: 'buttons' }, no, yes));
  let meant = null;
  let done = () => {};
  no.addEventListener('click', () => el.close());
  yes.addEventListener('click', async () => {
    yes.disabled = true;
    say(wrong, '');
    try {
      const answer = await post('/v1/kill', { lease_ids: [meant.id], tenant: meant.tenant });
      const n = answer.killed.length;
      announce(n ? `Taken back: ${meant.feature} from ${meant.user || 'nobody named'}` : 'It had ended already');
      el.close();
      done();
    } catch (err) {
      if (err.status === 401) { el.close(); app.signIn(err); return; }
      say(wrong, `Not taken back: ${err.message}`);
    } finally {
      yes.disabled = false;
    }
  });
  return {
    el,
    get open() { return el.open; },
    ask(l, after) {
      meant = l;
      done = after;
      const many = l.count === 1 ? 'this seat' : `these ${number(l.count)} seats`;
      say(title, `Take ${many} back?`);
      say(yes, `Take back from ${l.user || 'the holder'}`);
      say(wrong, '');
      facts.replaceChildren(...[
        ['Feature', `${l.feature} ${l.version}`], ['Seats', `${number(l.count)} (${seats(l.seats)})`], ['User', l.user || '–'],
        ['Host', l.host || '–'], ['Display', l.display || '–'], ['State', l.state], ['Since', when(l.since)], ['Handle', l.handle],
      ].flatMap(([k, v]) => [h('dt', { text: k }), h('dd', { text: v })]));
      say(warn, l.state === 'borrowed'
        ? 'It was borrowed for use offline: the program goes on until it hears of this.'
        : 'The seat is free at once. The program learns of it at its next heartbeat and goes on until then.');
      el.showModal();
      no.focus();
    },
  };
}

function leaseRow(app, ask) {
  const [feature, user, host, display, count, state, left, since, handle, act] = cells(
    '', 'User', 'Host', 'Display', ['Seats', 'num'], 'State', ['Heartbeat due', 'num'], ['Since', 'num'], ['Handle', 'num'], ['', 'act']);
  feature.className = 'first';
  const version = h('span', { class: 'muted' });
  const name = h('span');
  feature.append(name, ' ', version);
  const kill = h('button', { type: 'button', class: 'quiet danger kill', text: 'Take back…', on: { click: () => ask(item) } });
  act.append(kill);
  let item = null;
  return {
    el: h('tr', null, feature, user, host, display, count, state, left, since, handle, act),
    update(l) {
      item = l;
      act.hidden = !app.mayKill();
      say(name, l.feature);
      say(version, l.version);
      mark(feature, 'title', `${l.feature} ${l.version}`);
      say(user, l.user || '–');
      say(host, l.host || '–');
      say(display, l.display || '–');
      for (const td of [user, host, display]) mark(td, 'title', td.textContent); // a long one is cut off
      say(count, number(l.count));
      mark(count, 'title', `seats ${seats(l.seats)}`);
      say(state, l.state);
      mark(state, 'data-state', l.state);
      say(left, l.until ? when(l.until) : l.state === 'expiring' ? `late, ends in ${span(l.grace_ms)}` : `in ${span(l.remaining_ms)}`);
      say(since, when(l.since));
      say(handle, l.handle);
      mark(kill, 'aria-label', `Take ${l.feature} back from ${l.user || 'its holder'} on ${l.host || 'an unknown host'}, handle ${l.handle}`);
    },
  };
}

export function leases(app) {
  const dialog = confirmKill(app);
  const search = h('input', { type: 'search', id: 'search', placeholder: 'User, host, display, feature or handle', autocomplete: 'off', spellcheck: 'false', maxlength: '120' });
  const feature = h('select', { id: 'feature' }, h('option', { value: '', text: 'All features' }));
  const state = h('select', { id: 'state' }, h('option', { value: '', text: 'Any state' }), STATES.map((x) => h('option', { value: x, text: x })));
  const size = h('select', { id: 'size' }, SIZES.map((n) => h('option', { value: String(n), text: `${n} a page` })));
  const form = h('form', { class: 'filters', role: 'search' },
    h('label', { for: 'search' }, h('span', { text: 'Search' }), search),
    h('label', { for: 'feature' }, h('span', { text: 'Feature' }), feature),
    h('label', { for: 'state' }, h('span', { text: 'State' }), state),
    h('label', { for: 'size' }, h('span', { text: 'Page' }), size));
  const order = new Order(ORDER);
  const found = table('Allocations', [['Feature', '', 'feature'], ['User', '', 'user'], ['Host', '', 'host'], ['Display', '', 'display'], ['Seats', 'num', 'seats'],
    ['State', '', 'state'], ['Heartbeat due', 'num', 'due'], ['Since', 'num', 'since'], ['Handle', 'num', 'handle'], ['', 'act']], (by) => { order.choose(by); remember(); draw(); });
  found.el.hidden = true;
  const rows = new Rows(found.body, (l) => l.id, () => leaseRow(app, (l) => dialog.ask(l, () => load())));
  const note = h('p', { class: 'empty', role: 'status', text: READING });
  const why = h('p', { class: 'empty', hidden: true });
  const count = h('span', { class: 'muted num' });
  const back = h('button', { type: 'button', text: 'Previous' });
  const next = h('button', { type: 'button', text: 'Next' });
  const pages = h('div', { class: 'pager', role: 'navigation', 'aria-label': 'Pages of allocations' }, back, next);

  let tokens = ['']; // of the pages up to the one shown
  let following = '';
  let shown = [];
  let seen = 0; // when they came
  let asked = 0;
  let coming = ''; // what is asked for now
  let again = false; // and once more after it
  let typing = 0;
  let tick = 0;
  let names = '';

  const terms = () => ({ search: search.value.trim(), feature: feature.value, state: state.value });
  const bare = () => !search.value.trim() && !feature.value && !state.value && !app.tenant;

  // counting says which part of how much is shown, and in what order.
  function counting() {
    if (!shown.length) return '';
    const first = (tokens.length - 1) * Number(size.value);
    const all = following || tokens.length > 1;
    const of = following ? (bare() && app.frame ? ` of ${number(app.frame.status.leases)}` : ', more follow') : ` of ${number(first + shown.length)}`;
    const range = all ? `${number(first + 1)}–${number(first + shown.length)}${of}` : plural(shown.length, 'allocation');
    return range + (order.by && all ? ', this page sorted' : '');
  }

  function draw() {
    rows.set(order.of(shown));
    found.arrow(order);
    if (!shown.length && found.el.contains(document.activeElement)) search.focus({ preventScroll: true });
    found.el.hidden = !shown.length;
    pages.hidden = tokens.length < 2 && !following;
    say(count, counting());
    why.hidden = app.mayKill() || !shown.length;
    say(why, app.mayKill() ? '' : `To take a seat back, sign in with a token of the role operator; this one is ${app.who.role}.`);
  }

  // failed says that what is shown is not what is.
  function failed(err) {
    if (err.status === 401) { app.signIn(err); return; }
    say(note, shown.length ? `As it was at ${minute(seen)}: ${err.message}` : `Not shown now: ${err.message}`);
    mark(note, 'class', 'empty error');
    note.hidden = false;
  }

  async function load() {
    if (!app.frame) return;
    if (!app.has('/v1/leases')) {
      say(note, app.notFor('who holds seats'));
      form.hidden = found.el.hidden = pages.hidden = true;
      return;
    }
    const what = { ...terms(), tenant: app.tenant, page_size: size.value, page_token: tokens.at(-1), stale: app.frame.stale ? 'true' : '' };
    const key = JSON.stringify(what);
    if (key === coming) { again = true; return; } // over a slow line an answer must not be overtaken for ever
    coming = key;
    again = false;
    const mine = ++asked;
    try {
      const answer = await get('/v1/leases', what);
      if (mine !== asked) return;
      for (const l of answer.leases) for (const name of ['user', 'host', 'display']) l[name] = visible(l[name]);
      if (!answer.leases.length && tokens.length > 1) { // the last page emptied
        tokens.pop();
        remember();
        again = true;
        return;
      }
      following = answer.next_page_token;
      shown = answer.leases;
      seen = Date.now();
    } catch (err) {
      if (mine === asked) failed(err);
      return;
    } finally {
      if (mine === asked) {
        coming = '';
        if (again) load();
      }
    }
    draw();
    say(note, shown.length ? '' : !app.frame.status.pools.length ? NO_LICENCE : bare() ? 'Nobody holds a seat.' : 'No allocation is like that.');
    mark(note, 'class', 'empty');
    note.hidden = !note.textContent;
    back.disabled = tokens.length < 2;
    next.disabled = !following;
  }

  // remember puts search, filters and order into the address, and the page into the history.
  function remember(step) {
    app.address('allocations', { ...terms(), size: size.value === String(SIZES[0]) ? '' : size.value, ...order.params() }, { tokens }, step);
  }

  function turn(by) {
    tokens = by > 0 ? [...tokens, following] : tokens.slice(0, -1);
    remember(true);
    load();
  }

  function fresh() {
    clearTimeout(typing);
    tokens = [''];
    remember();
    load();
  }

  form.addEventListener('submit', (e) => { e.preventDefault(); fresh(); });
  search.addEventListener('input', () => { clearTimeout(typing); typing = setTimeout(fresh, TYPING); });
  for (const el of [feature, state, size]) el.addEventListener('change', fresh);
  back.addEventListener('click', () => turn(-1));
  next.addEventListener('click', () => turn(1));

  function options() {
    const list = [...new Set((app.frame?.status.pools ?? []).map((p) => p.feature))].sort();
    if (feature.value && !list.includes(feature.value)) list.push(feature.value);
    if (list.join('\n') === names) return;
    names = list.join('\n');
    const chosen = feature.value;
    feature.replaceChildren(h('option', { value: '', text: 'All features' }), ...list.map((f) => h('option', { value: f, text: f })));
    feature.value = chosen;
  }

  let drawn = '';
  let kills = true;
  return {
    el: h('div', null, h('h1', { class: 'unseen', text: 'Allocations' }),
      card('Allocations', count, form, why, found.el, note, pages), dialog.el),
    show(params) {
      search.value = params.get('search') ?? '';
      const want = params.get('feature') ?? '';
      if (want && ![...feature.options].some((o) => o.value === want)) feature.append(h('option', { value: want, text: want }));
      names = '';
      feature.value = want;
      state.value = STATES.includes(params.get('state')) ? params.get('state') : '';
      size.value = SIZES.includes(Number(params.get('size'))) ? params.get('size') : String(SIZES[0]);
      order.set(params.get('by') ?? '', params.get('turned'));
      options();
      tokens = history.state?.tokens ?? [''];
      load();
      clearInterval(tick);
      tick = setInterval(() => { if (!document.hidden && !dialog.open) load(); }, EVERY);
    },
    hide() { clearInterval(tick); clearTimeout(typing); },
    focus() { search.focus(); search.select(); },
    update() {
      options();
      if (kills !== app.mayKill()) { kills = app.mayKill(); draw(); }
      // A change of what is taken is shown at once, not at the next tick.
      const now = app.frame.status.pools.map((p) => p.in_use).join() + app.frame.status.leases;
      if ((now !== drawn || !app.has('/v1/leases')) && !dialog.open) load();
      drawn = now;
    },
  };
}
