// Building the page. Everything that comes from outside becomes text by way of
// textContent; nothing here, or anywhere, turns a string into markup.

const SVG = 'http://www.w3.org/2000/svg';

function fill(el, attrs, kids) {
  for (const [name, value] of Object.entries(attrs ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name === 'on') for (const [event, fn] of Object.entries(value)) el.addEventListener(event, fn);
    else if (name === 'text') el.textContent = value;
    else if (name === 'value') el.value = value;
    else el.setAttribute(name, value === true ? '' : value);
  }
  el.append(...kids.flat().filter((k) => k !== undefined && k !== null && k !== false));
  return el;
}

// h makes an element: h('p', {class: 'x', on: {click: f}}, 'text', child).
export const h = (tag, attrs, ...kids) => fill(document.createElement(tag), attrs, kids);

// s makes an SVG element.
export const s = (tag, attrs, ...kids) => fill(document.createElementNS(SVG, tag), attrs, kids);

// say sets a text only when it differs, so that screen readers and selections are left alone.
export function say(el, text) {
  text = String(text ?? '');
  if (el.textContent !== text) el.textContent = text;
}

export function mark(el, name, value) {
  if (value === null || value === undefined || value === false) el.removeAttribute(name);
  else if (el.getAttribute(name) !== String(value)) el.setAttribute(name, value);
}

// Rows keeps the children of a parent in step with a list. A row that stays keeps its
// element, and with it focus, selection and scroll. If a row that has the focus goes, the
// row in its place gets it, so that who works by keyboard is not thrown to the top.
export class Rows {
  constructor(parent, key, make) {
    Object.assign(this, { parent, key, make, rows: new Map() });
  }

  set(items) {
    const next = new Map();
    let at = this.parent.firstElementChild;
    for (const item of items) {
      const key = this.key(item);
      if (next.has(key)) continue;
      const row = this.rows.get(key) ?? this.make(item);
      row.update(item);
      next.set(key, row);
      if (row.el === at) at = at.nextElementSibling;
      else this.parent.insertBefore(row.el, at);
    }
    const place = [...this.rows.values()].findIndex((row) => row.el.contains(document.activeElement));
    const gone = place >= 0 && !next.has([...this.rows.keys()][place]);
    for (const [key, row] of this.rows) if (!next.has(key)) row.el.remove();
    this.rows = next;
    if (gone) this.heir(place)?.focus({ preventScroll: true });
  }

  heir(place) {
    const row = [...this.rows.values()][Math.min(place, this.rows.size - 1)];
    return row?.el.querySelector('button, a') ?? this.parent.closest('[tabindex]');
  }
}

// announce tells screen readers.
export const announce = (text) => say(document.getElementById('said'), text);

// table makes a table in a frame that scrolls by itself; each column is a name, or
// [name, class, what to sort by]. sorted is told what was chosen.
export function table(label, columns, sorted) {
  const body = h('tbody');
  const sortable = new Map();
  const head = columns.map((c) => {
    const [name, kind, by] = Array.isArray(c) ? c : [c];
    if (!name) return h('td', { class: kind });
    if (!by) return h('th', { scope: 'col', class: kind, text: name });
    const th = h('th', { scope: 'col', class: kind }, h('button', { type: 'button', class: 'sort', text: name, on: { click: () => sorted(by) } }));
    sortable.set(by, th);
    return th;
  });
  const el = h('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': label },
    h('table', null, h('thead', null, h('tr', null, head)), body));
  return {
    el,
    body,
    // arrow shows what it is sorted by.
    arrow({ by, turned }) {
      for (const [name, th] of sortable) mark(th, 'aria-sort', name !== by ? null : turned ? 'descending' : 'ascending');
    },
  };
}

// Order is what a list is sorted by: a click on the same column turns it around, one more
// ends it.
export class Order {
  by = '';
  turned = false;

  constructor(values) { this.values = values; }

  set(by, turned) { Object.assign(this, { by: this.values[by] ? by : '', turned: Boolean(this.values[by] && turned) }); }

  choose(by) {
    if (this.by !== by) this.set(by, false);
    else if (!this.turned) this.turned = true;
    else this.set('', false);
  }

  // params are what of it stands in an address.
  params() { return { by: this.by, turned: this.turned ? '1' : '' }; }

  of(list) {
    const value = this.values[this.by];
    if (!value) return list;
    return [...list].sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      const c = typeof x === 'string' ? x.localeCompare(y, 'en', { numeric: true }) : x - y || 0;
      return this.turned ? -c : c;
    });
  }
}

// cells makes the cells of a row: pairs of column name (shown on phones) and class.
export function cells(...columns) {
  return columns.map((c) => {
    const [label, kind] = Array.isArray(c) ? c : [c];
    return h('td', { class: kind, 'data-label': label });
  });
}

export function card(title, note, ...kids) {
  return h('section', { class: 'card', 'aria-label': title },
    h('div', { class: 'head' }, h('h2', { text: title }), note), kids);
}

// READING stands where something is asked for and has not come yet.
export const READING = 'Reading…';

export const empty = (text) => h('p', { class: 'empty', text });
