// The page: one stream of frames, one view at a time, chosen by the part after #.
import { h, say, mark, announce } from './dom.js';
import { nodeName, hour, minute, span, zone } from './format.js';
import { get, token, watch } from './api.js';
import { judge } from './verdict.js';
import { History } from './history.js';
import { overview } from './overview.js';
import { leases } from './leases.js';
import { licences } from './licences.js';
import { cluster } from './cluster.js';
import { waiting, policy } from './more.js';
import { signIn } from './signin.js';

const $ = (id) => document.getElementById(id);

const DAY = 86400e3;
const STEP = 300e3; // of the plots
const RECALL = 300e3; // between two looks at the records

class App {
  askAgain = 0;
  frame = null;
  past = new History();
  link = 'opening'; // opening, live or lost
  why = null; // the Problem that the node gave for being lost
  heard = 0; // when it last sent anything
  leaderless = 0; // since when no leader answers, as far as this page saw
  who = null; // what the token may do; null: not known
  tenant = new URLSearchParams(location.search).get('tenant') ?? '';
  current = null;
  stop = () => {};

  constructor() {
    this.views = new Map([
      ['overview', ['Overview', overview(this)]],
      ['allocations', ['Allocations', leases(this)]],
      ['waiting', ['Queue & denials', waiting(this)]],
      ['licences', ['Licences', licences(this)]],
      ['cluster', ['Cluster', cluster(this)]],
      ['policy', ['Policy', policy(this)]],
    ]);
    this.links = new Map();
    for (const [name, [title]] of this.views) {
      const a = h('a', { href: `#${name}`, text: title });
      this.links.set(name, a);
      $('nav').append(a);
    }
    window.addEventListener('hashchange', () => this.route());
    window.addEventListener('popstate', () => { if (location.hash === this.at) this.route(); }); // another page of the same list
    document.addEventListener('keydown', (e) => this.key(e));
    document.querySelector('.skip').addEventListener('click', (e) => { e.preventDefault(); $('main').focus(); });
    $('leave').addEventListener('click', () => { token.set(''); location.reload(); });
    $('leave').hidden = !token.get();
    this.door = signIn((value) => { token.set(value); location.reload(); });
    document.body.append(this.door.el);
    setInterval(() => this.drawAge(), 1000);
    this.route();
    this.drawLink();
    this.open();
  }

  open() {
    this.stop = watch({
      path: () => `/ui/events${this.tenant ? `?tenant=${encodeURIComponent(this.tenant)}` : ''}`,
      frame: (f) => this.take(f),
      state: (s, why) => {
        if (s === 'live') this.heard = Date.now();
        const fresh = s === 'live' && this.link !== s; // after a break the token may be another's
        if (s === this.link && !why) return;
        Object.assign(this, { link: s, why });
        if (fresh) this.identify();
        this.drawLink();
        if (this.frame) this.current.update();
      },
      refused: (err) => (err.status === 401 || err.status === 403 ? this.signIn(err) : this.fail(err)),
    });
  }

  take(frame) {
    frame.status.pools ??= [];
    this.leaderless = frame.stale ? this.leaderless || Date.now() : 0;
    this.frame = frame;
    this.remember();
    this.past.add(frame.status.pools);
    this.drawLink();
    this.current.update();
    this.title();
  }

  // identify asks what the viewer may do.
  async identify() {
    try {
      this.who = await get('/v1/whoami');
      this.drawSource();
      if (this.frame) this.current.update();
    } catch { /* the buttons stay: the API has the last word */ }
  }

  // mayKill says whether a kill can succeed.
  mayKill() { return !this.who?.enforced || ['operator', 'admin'].includes(this.who.role); }

  // route shows the view that the address names; what was there keeps its place.
  route() {
    const [name, query] = location.hash.slice(1).split('?');
    const known = this.views.has(name) ? name : 'overview';
    const [title, view] = this.views.get(known);
    this.at = location.hash;
    this.name = title;
    if (this.current !== view) {
      const inside = $('main').contains(document.activeElement);
      this.current?.hide?.();
      if (this.current) announce(title);
      this.current = view;
      $('main').replaceChildren(view.el);
      if (inside) $('main').focus({ preventScroll: true }); // the link that led here is gone
      window.scrollTo(0, 0);
    }
    for (const [n, a] of this.links) mark(a, 'aria-current', n === known ? 'page' : null);
    this.links.get(known).scrollIntoView({ block: 'nearest', inline: 'center' }); // of a row that a phone cuts off
    view.show?.(new URLSearchParams(query ?? ''));
    if (this.frame) view.update();
    this.title();
  }

  // address puts what a view shows into the address, so that a reload shows it again; page
  // is what a step of the history is to remember.
  address(name, params, page, step) {
    const q = new URLSearchParams(Object.entries(params).filter(([, v]) => v));
    const to = `${location.pathname}${location.search}#${name}${q.size ? `?${q}` : ''}`;
    if (step) history.pushState(page, '', to);
    else history.replaceState(page ?? null, '', to);
    this.at = location.hash;
  }

  title() {
    const wrong = this.frame ? judge(this.frame).filter((f) => f.level !== 'note').length : 0;
    const text = `${this.link === 'lost' ? 'No answer: ' : wrong ? `(${wrong}) ` : ''}${this.name} · Seatkeeper`;
    if (document.title !== text) document.title = text;
  }

  key(e) {
    const typing = e.target.closest?.('input, select, textarea, dialog');
    if (e.key !== '/' || typing || e.ctrlKey || e.metaKey || e.altKey) return;
    e.preventDefault();
    if (!location.hash.startsWith('#allocations')) location.hash = '#allocations';
    setTimeout(() => this.views.get('allocations')[1].focus());
  }

  // drawLink says whether what is shown is what is, and if not, since when.
  drawLink() {
    const el = $('link');
    const lost = this.link === 'lost';
    const old = lost || Boolean(this.frame?.stale);
    say(el, lost ? 'Reconnecting' : this.frame ? (this.frame.stale ? 'No leader' : 'Live') : 'Connecting');
    mark(el, 'data-level', old ? 'bad' : this.frame ? 'ok' : null);
    mark($('main'), 'data-old', old);
    const banner = $('banner');
    banner.hidden = !old;
    if (lost) this.drawLost($('news'));
    else if (old) say($('news'), `No leader has answered since ${minute(this.leaderless)}. What is shown is this node’s own state and may be old; no seat can be taken until a majority of nodes is back.`);
    this.drawAge();
    this.drawSource();
    this.title();
  }

  drawLost(el) {
    const others = (this.frame?.status.nodes ?? []).filter((n) => n.address && n.address !== location.host && n.role !== 'unreachable');
    const said = this.why ? `${location.host}: ${this.why.message}.` : `${location.host} does not answer.`;
    const text = `${said} ${this.frame ? `What is shown is as it was at ${minute(this.heard)}. ` : ''}It is tried again by itself.`;
    if (el.dataset.text === text && el.querySelectorAll('a').length === others.length) return; // an alert is read out at each change
    el.dataset.text = text;
    el.replaceChildren(text, ...(others.length ? [` Other nodes${token.get() ? ' (sign in there anew)' : ''}: `,
      ...others.flatMap((n, i) => [i ? ', ' : '', h('a', { href: this.pageOf(n.address), text: nodeName(n.id) })])] : []));
  }

  // drawAge counts on; it is not read out.
  drawAge() {
    const since = this.link === 'lost' ? this.heard : this.leaderless;
    say($('age'), since && !$('banner').hidden ? `for ${span(Date.now() - since)}` : '');
  }

  drawSource() {
    if (!this.frame) return;
    const self = this.frame.self;
    const who = this.who?.enforced ? `signed in as ${[this.who.role, this.who.user].filter(Boolean).join(', ')}` : '';
    say($('source'), [`cluster ${this.frame.status.cluster_id || '–'}`, `served by ${nodeName(self?.node)} ${self?.version ?? ''}`,
      this.tenant && `tenant ${this.tenant}`, who, `times in ${zone()}`].filter(Boolean).join(' · '));
  }

  // has says whether the server answers a path that not every server has, or this viewer may read.
  has(path) { return Boolean(this.frame?.paths.includes(path)); }

  // notFor says why something is not shown to this viewer.
  notFor(what) {
    return this.who?.enforced ? `A token of the role ${this.who.role} may not see ${what}; sign in with one of the role viewer or operator.` : `This server does not tell ${what}.`;
  }

  fail(err) {
    say($('news'), err.message);
    $('banner').hidden = false;
  }

  signIn(err) {
    this.stop();
    this.current?.hide?.();
    for (const el of [$('main'), $('banner'), $('link'), $('leave'), $('nav')]) el.hidden = true; // nothing that a token showed outlives it
    say($('source'), '');
    this.door.open(token.get() ? err.message : '', err.status);
  }

  // pageOf is the dashboard of another node; addresses come from the members themselves.
  pageOf(address) {
    try {
      const url = new URL(`${location.protocol}//${address}/ui/`);
      return url.host === address ? url.href + location.hash : null;
    } catch { return null; }
  }

  // day is what is known of a pool's last hours.
  day(pool) {
    const alone = this.frame.status.pools.filter((p) => p.feature === pool.feature && p.tenant === pool.tenant).length === 1;
    return this.past.day(pool, alone);
  }

  daySource() {
    if (!this.past.before) return `seen by this page since ${hour(this.past.since)}`;
    return `${this.past.young ? 'since the cluster began' : 'the last 24 hours'}, ${this.past.complete ? 'by the records of usage' : 'as far as this node has records'}`;
  }

  // remember asks for the hours before the page was opened, once the API is known to tell.
  async remember() {
    if (!this.has('/v1/usage/concurrency') || Date.now() < this.askAgain) return;
    this.askAgain = Date.now() + RECALL;
    try {
      const age = Number(this.frame.status.cluster_time_ms) + STEP;
      const from = Date.now() - Math.min(DAY, age);
      const answer = await get('/v1/usage/concurrency', { tenant: this.tenant, from: new Date(from).toISOString().slice(0, 19) + 'Z', step_ms: STEP });
      this.past.told(answer.points, from, !answer.truncated);
      this.past.young = age < DAY;
      this.current.update();
    } catch { /* what the page saw itself is shown */ }
  }
}

new App();
