// The API as this page uses it: same origin, forwarded by followers, with the token in a
// header and nowhere else.

const STORE = 'seatkeeper-token';

export const token = {
  get: () => sessionStorage.getItem(STORE) ?? '',
  set: (value) => (value ? sessionStorage.setItem(STORE, value) : sessionStorage.removeItem(STORE)),
};

// Problem is a refusal of the API.
export class Problem extends Error {
  constructor(status, body) {
    super(body?.message || `the server answers ${status}`);
    this.status = status;
    this.reason = body?.reason ?? '';
  }
}

function headers(more) {
  const out = { 'X-Seatkeeper-Console': '1', 'X-Seatkeeper-Forward': '1', ...more };
  if (token.get()) out.Authorization = `Bearer ${token.get()}`;
  return out;
}

// status is that of an answer; to the page a refusal comes as 200 with this header, so
// that the browser's console is left to what is wrong.
const status = (resp) => Number(resp.headers.get('X-Seatkeeper-Status')) || resp.status;

async function refusal(resp) {
  let body = null;
  const text = await resp.text();
  try { body = JSON.parse(text); } catch { // not the API's
    if (resp.headers.get('Content-Type')?.startsWith('text/plain')) body = { message: text.trim().slice(0, 300) };
  }
  return new Problem(status(resp), body);
}

const query = (params) => {
  const q = new URLSearchParams();
  for (const [k, v] of Object.entries(params ?? {})) if (v !== '' && v !== undefined && v !== null) q.set(k, v);
  return q.size ? `?${q}` : '';
};

// TIMEOUT bounds a call: the server's own bound is ten seconds.
const TIMEOUT = 12_000;

async function call(method, path, params, body) {
  let resp;
  try {
    resp = await fetch(path + query(method === 'GET' ? params : null), {
      method, headers: headers(body ? { 'Content-Type': 'application/json' } : {}), body: body && JSON.stringify(body),
      cache: 'no-store', credentials: 'omit', redirect: 'error', signal: AbortSignal.timeout(TIMEOUT),
    });
  } catch { // a browser's own words differ, and say less
    throw new Problem(0, { message: `${location.host} does not answer${body ? ': it may have been done all the same, look again' : ''}` });
  }
  if (status(resp) >= 400) throw await refusal(resp);
  return resp.json();
}

export const get = (path, params) => call('GET', path, params);
export const post = (path, body) => call('POST', path, null, body);

// SILENCE: a stream that brings nothing for so long is dead; the server sends something
// every 15 seconds.
const SILENCE = 25_000;
const PAUSE = 700; // before the stream is opened again; longer after each failure
const LONGEST_PAUSE = 4000;

// watch opens the event stream and opens it again when it ends. EventSource cannot send
// a token, so the stream is read by fetch.
// state is told 'live' with each sign of life, and 'lost' with the Problem, if the server gave one.
export function watch({ path, frame, state, refused }) {
  let stop = new AbortController();
  let ended = false;
  let failures = 0;

  async function read() {
    const abort = new AbortController();
    stop = abort;
    let timer;
    const alive = () => { clearTimeout(timer); timer = setTimeout(() => abort.abort(), SILENCE); };
    try {
      alive();
      const resp = await fetch(path(), { headers: headers({ Accept: 'text/event-stream' }), cache: 'no-store', credentials: 'omit', signal: abort.signal });
      if (status(resp) >= 400) throw await refusal(resp);
      const reader = resp.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = '';
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return;
        alive();
        state('live');
        rest += value;
        const blocks = rest.split('\n\n');
        rest = blocks.pop();
        for (const block of blocks) {
          const data = block.split('\n').filter((l) => l.startsWith('data: ')).map((l) => l.slice(6)).join('\n');
          if (!data) continue;
          failures = 0;
          try { frame(JSON.parse(data)); } catch (err) { reportError(err); } // ours, not the line's
        }
      }
    } finally {
      clearTimeout(timer);
    }
  }

  (async () => {
    while (!ended) {
      let why = null;
      try {
        await read();
      } catch (err) {
        if (ended) return;
        if (err instanceof Problem && err.status < 500 && err.status !== 429) { refused(err); return; }
        if (err instanceof Problem) why = err;
      }
      if (ended) return;
      failures++;
      state('lost', why);
      await new Promise((resolve) => { setTimeout(resolve, Math.min(PAUSE * failures, LONGEST_PAUSE)); });
    }
  })();
  return () => { ended = true; stop.abort(); };
}
