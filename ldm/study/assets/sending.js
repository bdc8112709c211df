// On a server (`ldm study serve`) the answers are handed in one by one. What did not arrive waits in the browser's
// store and is sent again, after a lost connection as after a restart of either side; the server counts each once.

const TIMEOUT_MS = 20000;
const LONGEST_MS = 15000;    // between two attempts
const AT_ONCE = 100;         // answers in one message
const UNKNOWN = 404;         // the server does not know the rater (yet, or any more)
const TOO_OFTEN = 429;

class Refused extends Error {
  constructor(status, words) { super(words); this.status = status; }
}

class TooOften extends Error {}

const awhile = (ms) => new Promise((resolve) => {
  setTimeout(resolve, ms);
  window.addEventListener("online", resolve, { once: true });
});

async function attempt(path, message) {
  const reply = await fetch(`api/${path}`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(message),
    keepalive: true,         // the last answer leaves even when the page is closed at once
    signal: AbortSignal.timeout(TIMEOUT_MS),
  });
  if (reply.ok) return reply.json();
  if (reply.status === TOO_OFTEN) throw new TooOften((await reply.json()).detail);
  const passing = reply.status >= 500 || [408, 425].includes(reply.status);
  if (passing) throw new Error(`status ${reply.status}`);
  throw new Refused(reply.status, (await reply.json()).detail);
}

async function post(path, message) {
  for (let attempts = 1; ; attempts += 1) {
    try {
      const told = await attempt(path, message);
      connected(true);
      return told;
    } catch (error) {
      if (error instanceof Refused) throw error;
      connected(attempts < 2, error instanceof TooOften ? error.message : undefined);
      await awhile(Math.min(LONGEST_MS, 250 * 2 ** attempts) * (0.5 + Math.random()));
    }
  }
}

// Says that this rater agreed, and learns the sheet and what has arrived; the same again changes nothing.
async function enrol() {
  const mine = state;
  const { rater, secret } = mine;
  const told = await post("raters", { study: study.study, rater, secret, agreed: true });
  if (mine !== state) return;
  if (state.sheet !== told.sheet) Object.assign(state, { sheet: told.sheet, trials: [] });
  arrive(told);
}

// What the server has, and to whom has finished, its thanks for the platform that sent the rater.
function arrive(told) {
  state.arrived = told.answered;
  state.completion = told.completion ?? null;
  keep();
}

const unsent = () => {
  const there = new Set(state.arrived);
  return state.trials.filter((answer) => !there.has(answer.trial));
};

async function sendAll() {
  const mine = state;
  while (mine === state && unsent().length) {
    const { rater, secret } = mine;
    try {
      const told = await post("answers", { rater, secret, answers: unsent().slice(0, AT_ONCE) });
      if (mine !== state) return;
      arrive(told);
    } catch (error) {
      if (error.status !== UNKNOWN) throw error;
      await enrol();
    }
  }
}

let sending = null;

// One message at a time; resolves when nothing is left to send, rejects when the server refuses.
function deliver() {
  sending ??= sendAll().finally(() => { sending = null; });
  return sending;
}
