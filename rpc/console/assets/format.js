// How values look.

export const NO_LICENCE = 'No licence is installed. Install one: seatkeeper license apply FILE';

// visible takes the signs out of a name that turn or hide others, so that it cannot be read
// as a different one.
export const visible = (text) => String(text ?? '').replace(/[\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]/g, '\ufffd');

const plain = new Intl.NumberFormat('en');

// number takes a number or a string of digits: 64-bit numbers come as strings.
export function number(n) {
  const v = Number(n ?? 0);
  return Number.isSafeInteger(v) ? plain.format(v) : String(n);
}

export function span(ms) {
  const sec = Math.max(0, Math.round(ms / 1000));
  if (sec < 60) return `${sec} s`;
  if (sec < 3600) return `${Math.floor(sec / 60)} min ${String(sec % 60).padStart(2, '0')} s`;
  if (sec < 86400) return `${Math.floor(sec / 3600)} h ${String(Math.floor(sec / 60) % 60).padStart(2, '0')} min`;
  return `${Math.floor(sec / 86400)} d ${Math.floor(sec / 3600) % 24} h`;
}

// setting shows a duration that somebody chose: 2 h, 90 s, 1 h 30 min.
export function setting(ms) {
  const parts = [[86400e3, 'd'], [3600e3, 'h'], [60e3, 'min'], [1e3, 's']];
  if (ms > 60e3 && ms < 120e3) return `${ms / 1000} s`;
  let left = ms;
  const out = [];
  for (const [unit, name] of parts) {
    const n = unit === 1e3 ? Math.round(left / 100) / 10 : Math.floor(left / unit);
    left -= n * unit;
    if (n) out.push(`${n} ${name}`);
  }
  return out.join(' ') || '0 s';
}

const clock = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit' });
const clockSeconds = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const two = (n) => String(n).padStart(2, '0');

export const day = (d) => `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())}`;
export const hour = (t) => clock.format(new Date(t));
export const minute = (t) => clockSeconds.format(new Date(t));

// moment is a time within the last day, as exact as a plot of that width shows it.
export function moment(t, width) {
  const text = (width < 600e3 ? minute : hour)(t);
  return day(new Date(t)) === day(new Date()) ? text : `yesterday ${text}`;
}

// zone names the clock that times are shown on.
export function zone() {
  const east = -new Date().getTimezoneOffset();
  const [h, m] = [Math.floor(Math.abs(east) / 60), Math.abs(east) % 60];
  return `UTC${east ? `${east < 0 ? '\u2212' : '+'}${two(h)}:${two(m)}` : ''}`;
}

// when shows an RFC 3339 time on the viewer's clock, without the day if it is today.
export function when(text) {
  const d = new Date(text);
  if (!text || Number.isNaN(d.getTime())) return text || '–';
  return day(d) === day(new Date()) ? clockSeconds.format(d) : `${day(d)} ${clock.format(d)}`;
}

// days counts from now (by the cluster's calendar, where it is known) to a date.
export function days(expiry, now) {
  const end = Date.parse(expiry);
  if (Number.isNaN(end)) return Infinity;
  return (end - (Date.parse(now) || Date.now())) / 86400e3;
}

export const SOON = 30; // days before the end from which a licence is worth a line
const URGENT = 7;

// dayIn is the day of an instant on a licence's own clock ("+02:00"; else UTC).
export function dayIn(ms, tz) {
  const [, sign, h, m] = /^([+-])(\d\d):(\d\d)$/.exec(tz ?? '') ?? [];
  const shift = sign ? (sign === '-' ? -1 : 1) * (Number(h) * 60 + Number(m)) * 60e3 : 0;
  return new Date(ms + shift).toISOString().slice(0, 10);
}

// lastDay is the last day of validity, given the first instant after it.
export const lastDay = (expiry, tz) => dayIn(Date.parse(expiry) - 1000, tz);

// expires says it as people do, and how bad it is: text stands in tables, long ends a
// sentence that begins with the feature.
export function expires(expiry, now, tz) {
  const left = days(expiry, now);
  if (left === Infinity) return { text: 'never', level: '' };
  const date = lastDay(expiry, tz);
  if (left < 0) return { text: `${date}, expired`, long: `licence expired on ${date}`, level: 'bad' };
  const n = Math.floor(left);
  const rest = ['today', 'tomorrow'][n] ?? `in ${number(n)} days`;
  const out = { text: `${date}, ${rest}`, long: `licence ends ${rest} (${date})` };
  if (left < URGENT) return { ...out, level: 'bad' };
  if (left < SOON) return { ...out, level: 'warn' };
  return { text: date, level: '' };
}

// name shows a node without the random end of its id.
export const nodeName = (id) => String(id ?? '').replace(/-[0-9a-f]{8}$/, '') || 'none';

export const plural = (n, one, many) => `${number(n)} ${n === 1 ? one : many ?? one + 's'}`;

// seats writes 1-4,7 for 1,2,3,4,7.
export function seats(list) {
  const out = [];
  const sorted = [...(list ?? [])].sort((a, b) => a - b);
  for (let i = 0; i < sorted.length;) {
    let j = i;
    while (j + 1 < sorted.length && sorted[j + 1] === sorted[j] + 1) j++;
    out.push(i === j ? `${sorted[i]}` : `${sorted[i]}–${sorted[j]}`);
    i = j + 1;
  }
  return out.join(', ');
}
