// What an operator must see in three seconds: who leads, are seats free, is anything wrong.
import { expires, nodeName, number, plural } from './format.js';

// LAG is how many entries a node may be behind before it is worth a line.
const LAG = 5000;

// counted pools can run out.
export const counted = (p) => p.total > 0 && !p.uncounted;

export const free = (p) => Math.max(0, p.total - p.in_use - p.reserved - (p.held_back ?? 0));

// judge lists what is wrong, the worst first: {level, text, to} with level bad, warn or note.
export function judge(frame) {
  const found = [];
  const add = (level, text, to) => found.push({ level, text, to });
  const st = frame.status;
  const away = st.nodes.filter((n) => n.role === 'unreachable');
  const voters = st.nodes.filter((n) => n.role !== 'learner').length;
  if (frame.stale || !st.leader) {
    add('bad', 'No leader: no seat can be taken until a majority of nodes is back. What is shown is one node’s own state and may be old.', 'cluster');
  }
  for (const n of away) add(away.length * 2 > voters ? 'bad' : 'warn', `Node ${nodeName(n.id)} does not answer`, 'cluster');
  if (!frame.stale && away.length > 0 && (voters - away.length) * 2 <= voters + 1 && voters > 1) {
    add('warn', 'One more lost node and no seat can be taken', 'cluster');
  }
  const heads = new Map();
  const most = Math.max(...st.nodes.map((n) => Number(n.applied_index)));
  for (const n of st.nodes) {
    if (n.role === 'unreachable') continue;
    if (most - Number(n.applied_index) > LAG) add('warn', `Node ${nodeName(n.id)} is ${number(most - Number(n.applied_index))} entries behind`, 'cluster');
    const other = heads.get(n.applied_index);
    if (other && n.state_hash && other !== n.state_hash) add('bad', `Nodes differ at entry ${n.applied_index}: their state is not the same`, 'cluster');
    heads.set(n.applied_index, n.state_hash);
  }
  for (const text of st.alarms ?? []) add('warn', text, 'cluster');
  for (const p of st.pools) {
    const e = expires(p.expiry, st.calendar);
    if (e.level) add(e.level, `${p.feature} ${p.version}: licence ends ${e.text}`, 'licences');
    if (!counted(p)) continue;
    if (p.in_grace > 0) add('warn', `${p.feature}: ${plural(p.in_grace, 'seat')} past the last day, until ${(p.grace_end || '').slice(0, 10)}`, 'licences');
    if (p.in_use > p.total) add('bad', `${p.feature}: ${p.in_use - p.total} seats in use beyond the ${p.total} licensed`, 'allocations');
    else if (free(p) === 0) add('warn', `${p.feature}: no seat is free${p.queued ? `, ${p.queued} wait` : ''}`, 'allocations');
    else if (p.queued > 0) add('note', `${p.feature}: ${plural(p.queued, 'request')} in the queue`, 'waiting');
  }
  const rank = { bad: 0, warn: 1, note: 2 };
  const seen = new Set();
  return found.filter((f) => !seen.has(f.text) && seen.add(f.text)).sort((a, b) => rank[a.level] - rank[b.level]);
}
