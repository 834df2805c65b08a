// What an operator must see in three seconds: who leads, are seats free, is anything wrong.
import { expires, lastDay, nodeName, number, plural } from './format.js';

// LAG is how many entries a node may be behind before it is worth a line.
const LAG = 5000;

// counted pools can run out.
export const counted = (p) => p.total > 0 && !p.uncounted;

export const free = (p) => Math.max(0, p.total - p.in_use - p.reserved - (p.held_back ?? 0));

// What to do, in the words of the runbook's pages.
const REMEDY = {
  leader: 'Start the nodes that are down: a majority is enough. Gone for good: runbook, “A majority is lost for good”.',
  away: 'Start it; it catches up by itself. Gone for good: seatkeeper operator raft replace-peer',
  thin: 'Bring a node back or replace it today: runbook, “A node is lost”.',
  behind: 'Just replaced, it catches up. Else its disk or network is too slow: seatkeeper doctor',
  differ: 'Stop the node that differs from the others and replace it: runbook, “Replace a node”.',
  ended: 'Apply the vendor’s new file: seatkeeper license apply',
  over: 'Nothing more is granted until seats come back.',
  none: 'Install one: seatkeeper license apply FILE',
  full: 'See who holds them, and what for.',
};

// judge lists what is wrong, the worst first: {level, text, to, remedy} with level bad, warn or note.
export function judge(frame) {
  const found = [];
  const add = (level, text, to, remedy) => found.push({ level, text, to, remedy });
  const st = frame.status;
  const away = st.nodes.filter((n) => n.role === 'unreachable');
  const voters = st.nodes.filter((n) => n.role !== 'learner').length;
  if (frame.stale || !st.leader) {
    add('bad', 'No leader: no seat can be taken until a majority of nodes is back', 'cluster', REMEDY.leader);
  }
  for (const n of away) add(away.length * 2 > voters ? 'bad' : 'warn', `Node ${nodeName(n.id)} does not answer`, 'cluster', REMEDY.away);
  if (!frame.stale && away.length > 0 && (voters - away.length) * 2 <= voters + 1 && voters > 1) {
    add('warn', 'One more lost node and no seat can be taken', 'cluster', REMEDY.thin);
  }
  judgeLogs(st.nodes, add);
  for (const text of st.alarms ?? []) add('warn', text, 'cluster');
  if (!st.pools.length) add('warn', 'No licence is installed: no seat can be taken', 'licences', REMEDY.none);
  for (const p of st.pools) judgePool(p, st.calendar, add);
  const rank = { bad: 0, warn: 1, note: 2 };
  const seen = new Set();
  return found.filter((f) => !seen.has(f.text) && seen.add(f.text)).sort((a, b) => rank[a.level] - rank[b.level]);
}

function judgeLogs(nodes, add) {
  const heads = new Map();
  const most = Math.max(...nodes.map((n) => Number(n.applied_index)));
  for (const n of nodes) {
    if (n.role === 'unreachable') continue;
    const behind = most - Number(n.applied_index);
    if (behind > LAG) add('warn', `Node ${nodeName(n.id)} is ${number(behind)} entries behind`, 'cluster', REMEDY.behind);
    const other = heads.get(n.applied_index);
    if (other && n.state_hash && other !== n.state_hash) add('bad', `Nodes differ at entry ${number(n.applied_index)}: their state is not the same`, 'cluster', REMEDY.differ);
    heads.set(n.applied_index, n.state_hash);
  }
}

function judgePool(p, calendar, add) {
  const held = `allocations?feature=${encodeURIComponent(p.feature)}`;
  const e = expires(p.expiry, calendar);
  if (e.level) add(e.level, `${p.feature} ${p.version}: ${e.long}`, 'licences', REMEDY.ended);
  const over = p.uncounted ? 0 : Math.max(p.over_use ?? 0, p.in_use - p.total);
  if (over > 0) add('bad', `${p.feature} ${p.version}: ${plural(over, 'seat')} in use beyond the ${number(p.total)} licensed`, held, REMEDY.over);
  if (!counted(p)) return;
  if (p.in_grace > 0) add('warn', `${p.feature}: ${plural(p.in_grace, 'seat')} past the last day, until ${lastDay(p.grace_end)}`, 'licences', REMEDY.ended);
  if (over > 0) return;
  if (free(p) === 0) add('warn', `${p.feature}: no seat is free${p.queued ? `, ${plural(p.queued, 'request waits', 'requests wait')}` : ''}`, held, REMEDY.full);
  else if (p.queued > 0) add('note', `${p.feature}: ${plural(p.queued, 'request')} in the queue`, 'waiting');
}
