// The page: one stream of frames, one view at a time, chosen by the part after #.
import { h, say, mark } from './dom.js';
import { nodeName, hour } from './format.js';
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
  link = 'opening';
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
    document.addEventListener('keydown', (e) => this.key(e));
    document.querySelector('.skip').addEventListener('click', (e) => { e.preventDefault(); $('main').focus(); });
    $('leave').addEventListener('click', () => { token.set(''); location.reload(); });
    $('leave').hidden = !token.get();
    this.door = signIn((value) => { token.set(value); location.reload(); });
    document.body.append(this.door.el);
    this.route();
    this.open();
  }

  open() {
    this.stop = watch({
      path: () => `/ui/events${this.tenant ? `?tenant=${encodeURIComponent(this.tenant)}` : ''}`,
      frame: (f) => this.take(f),
      state: (s) => { this.link = s; this.drawLink(); },
      refused: (err) => (err.status === 401 || err.status === 403 ? this.signIn(err) : this.fail(err)),
    });
  }

  take(frame) {
    frame.status.pools ??= [];
    this.frame = frame;
    this.remember();
    this.past.add(frame.status.pools);
    this.drawLink();
    this.current.update();
    this.title();
  }

  // route shows the view that the address names; what was there keeps its place.
  route() {
    const [name, query] = location.hash.slice(1).split('?');
    const known = this.views.has(name) ? name : 'overview';
    const [title, view] = this.views.get(known);
    if (this.current !== view) {
      this.current?.hide?.();
      this.current = view;
      $('main').replaceChildren(view.el);
      window.scrollTo(0, 0);
    }
    for (const [n, a] of this.links) mark(a, 'aria-current', n === known ? 'page' : null);
    this.name = title;
    view.show?.(new URLSearchParams(query ?? ''));
    if (this.frame) view.update();
    this.title();
  }

  title() {
    const wrong = this.frame ? judge(this.frame).filter((f) => f.level !== 'note').length : 0;
    const text = `${wrong ? `(${wrong}) ` : ''}${this.name} · Seatkeeper`;
    if (document.title !== text) document.title = text;
  }

  key(e) {
    const typing = e.target.closest?.('input, select, textarea, dialog');
    if (e.key !== '/' || typing || e.ctrlKey || e.metaKey || e.altKey) return;
    e.preventDefault();
    if (!location.hash.startsWith('#allocations')) location.hash = '#allocations';
    setTimeout(() => this.views.get('allocations')[1].focus());
  }

  // drawLink says whether what is shown is what is.
  drawLink() {
    const el = $('link');
    const banner = $('banner');
    if (this.link === 'lost') {
      say(el, 'Reconnecting');
      mark(el, 'data-level', 'bad');
      const others = (this.frame?.status.nodes ?? []).filter((n) => n.address && n.address !== location.host && n.role !== 'unreachable');
      banner.replaceChildren(`${location.host} does not answer; what is shown is as it was. It is tried again by itself.`,
        ...(others.length ? [' Other nodes: ', ...others.flatMap((n, i) => [i ? ', ' : '', h('a', { href: this.pageOf(n.address), text: nodeName(n.id) })])] : []));
      banner.hidden = false;
      return;
    }
    say(el, this.frame ? (this.frame.stale ? 'No leader' : 'Live') : 'Connecting');
    mark(el, 'data-level', this.frame ? (this.frame.stale ? 'bad' : 'ok') : null);
    banner.hidden = !this.frame?.stale;
    if (this.frame?.stale) say(banner, 'No leader answers. What is shown is this node’s own state and may be old; seats cannot be taken until a majority is back.');
    if (this.frame) say($('source'), `cluster ${this.frame.status.cluster_id || '–'} · served by ${nodeName(this.frame.self?.node)} ${this.frame.self?.version ?? ''}${this.tenant ? ` · tenant ${this.tenant}` : ''}`);
  }

  // has says whether the server answers a path that not every server has, or this viewer may read.
  has(path) { return Boolean(this.frame?.paths.includes(path)); }

  fail(err) {
    say($('banner'), err.message);
    $('banner').hidden = false;
  }

  signIn(err) {
    this.stop();
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
    return this.past.complete ? 'the last 24 hours, by the records of usage' : 'the last 24 hours, as far as this node has records';
  }

  // remember asks for the hours before the page was opened, once the API is known to tell.
  async remember() {
    if (!this.has('/v1/usage/concurrency') || Date.now() < this.askAgain) return;
    this.askAgain = Date.now() + RECALL;
    try {
      const from = Date.now() - DAY;
      const answer = await get('/v1/usage/concurrency', { tenant: this.tenant, from: new Date(from).toISOString().slice(0, 19) + 'Z', step_ms: STEP });
      this.past.told(answer.points, from, !answer.truncated);
      this.current.update();
    } catch { /* what the page saw itself is shown */ }
  }
}

new App();
