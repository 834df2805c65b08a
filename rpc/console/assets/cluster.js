// Cluster: members, by their own word and by gossip's, and what the cluster itself raises.
import { h, say, mark, Rows, table, cells, card } from './dom.js';
import { number, nodeName } from './format.js';

function memberRow(app) {
  const [name, role, health, voter, applied, behind, hash, version, api, raft] = cells(
    '', 'Role', 'Gossip', 'Votes', ['Applied', 'num'], ['Behind', 'num'], ['State', 'mono'], 'Version', ['API', 'mono'], ['Raft', 'mono']);
  name.className = 'first';
  const strong = h('strong');
  const here = h('span', { class: 'muted' });
  name.append(strong, ' ', here);
  const link = h('a', { rel: 'noopener' });
  api.append(link);
  return {
    el: h('tr', null, name, role, health, voter, applied, behind, hash, version, api, raft),
    update({ node, peer, most }) {
      say(strong, peer?.name || nodeName(node.id));
      mark(strong, 'title', node.id);
      say(here, app.frame.self?.node === node.id ? 'serves this page' : '');
      say(role, node.role);
      mark(role, 'data-role', node.role);
      say(health, peer?.health ?? '–');
      mark(health, 'data-level', peer?.health === 'failed' ? 'bad' : null);
      say(voter, peer ? (peer.voter ? 'yes' : 'no') : '–');
      const reached = node.role !== 'unreachable';
      say(applied, reached ? number(node.applied_index) : '–');
      say(behind, reached ? number(most - Number(node.applied_index)) : '–');
      say(hash, reached ? node.state_hash.slice(0, 12) : '–');
      say(version, node.version || '–');
      say(link, node.address || '–');
      mark(link, 'href', app.pageOf(node.address));
      say(raft, peer?.address ?? '–');
    },
  };
}

export function cluster(app) {
  const members = table('Members', ['Node', 'Role', 'Gossip', 'Votes', ['Applied', 'num'], ['Behind', 'num'], 'State', 'Version', 'API', 'Raft']);
  const rows = new Rows(members.body, (m) => m.node.id, () => memberRow(app));
  const facts = h('dl', { class: 'facts' });
  const values = new Map();
  const fact = (name, text) => {
    if (!values.has(name)) {
      const dd = h('dd', { class: 'num' });
      facts.append(h('div', null, h('dt', { text: name }), dd));
      values.set(name, dd);
    }
    say(values.get(name), text);
  };
  const list = h('ul', { class: 'alarms' });
  const alarms = new Rows(list, (text) => text, () => {
    const el = h('li', { 'data-level': 'warn' });
    return { el, update(text) { say(el, text); } };
  });
  const none = h('p', { class: 'empty', text: 'No alarm.' });
  return {
    el: h('div', null, h('h1', { class: 'unseen', text: 'Cluster' }), card('Members', null, members.el), card('Alarms', null, list, none), card('Cluster', null, facts)),
    update() {
      const st = app.frame.status;
      const peers = new Map((app.frame.peers?.peers ?? []).map((p) => [p.id, p]));
      const most = Math.max(...st.nodes.map((n) => Number(n.applied_index)));
      rows.set(st.nodes.map((node) => ({ node, peer: peers.get(node.id), most })));
      alarms.set(st.alarms ?? []);
      list.hidden = !(st.alarms ?? []).length;
      none.hidden = (st.alarms ?? []).length > 0;
      fact('Cluster', st.cluster_id);
      fact('Leader', app.frame.stale ? 'none' : st.leader || 'none');
      fact('Epoch', number(st.epoch));
      fact('Term', number(st.term));
      fact('Last entry', number(st.raft_index));
      fact('Sessions', number(st.sessions));
      fact('Leases', number(st.leases));
      fact('Calendar of licences', st.calendar ? st.calendar.replace(/T(\d\d:\d\d).*Z$/, ' $1 UTC') : '–');
    },
  };
}
