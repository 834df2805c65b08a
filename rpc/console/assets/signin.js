// The door: shown when the server asks for a token.
import { h, say } from './dom.js';

// advice says what to do about a token that is refused.
const advice = (status) => (status === 403
  ? 'Use one with the role viewer or operator; whoami shows what a token may do: seatkeeper token whoami.'
  : 'Paste the whole token, as it was shown when it was made (skt_…), or ask an admin for another one: seatkeeper token create --role viewer.');

export function signIn(enter) {
  const field = h('input', { type: 'password', id: 'token', autocomplete: 'current-password', required: true, spellcheck: 'false' });
  const wrong = h('p', { class: 'error', role: 'alert' });
  const form = h('form', { method: 'dialog' }, h('h2', { id: 'door-title', text: 'Sign in' }),
    h('p', { class: 'muted', text: 'This cluster asks for a token: one with the role viewer shows, one with the role operator may also take seats back. It is kept in this tab only.' }),
    h('input', { type: 'text', autocomplete: 'username', value: 'seatkeeper', hidden: true }), h('label', { for: 'token' }, h('span', { text: 'Token' }), field), wrong,
    h('div', { class: 'buttons' }, h('button', { type: 'submit', class: 'main', text: 'Sign in' })));
  const el = h('dialog', { id: 'door', 'aria-labelledby': 'door-title' }, form);
  el.addEventListener('cancel', (e) => e.preventDefault()); // there is nothing behind it
  form.addEventListener('submit', (e) => {
    e.preventDefault();
    if (field.value.trim()) enter(field.value.trim());
  });
  return {
    el,
    open(message, status) {
      say(wrong, message ? `${status === 403 ? 'This token may not look here' : 'The token was refused'}: ${message}. ${advice(status)}` : '');
      if (!el.open) el.showModal();
      field.focus();
    },
  };
}
