// What is kept: enough to go on after a reload, and what is handed in at the end.

const study = JSON.parse(document.getElementById("study").textContent);
const served = document.querySelector('meta[name="hand-in"]').content === "server";
const total = study.lists[0].length;
const place = `picture-study-${study.study}`;
const MOST_MS = 1e9;         // what the server takes as a time: eleven days

const hex = (bytes) => Array.from(crypto.getRandomValues(new Uint8Array(bytes)), (b) => b.toString(16).padStart(2, "0")).join("");

function fresh() {
  const asked = Number.parseInt(new URLSearchParams(location.search).get("list"), 10);
  const any = crypto.getRandomValues(new Uint32Array(1))[0] % study.lists.length;
  return {
    rater: hex(8),
    secret: hex(16),
    agreed: false,
    list: served ? null : asked in study.lists ? asked : any,
    practised: 0,
    looks: 0,
    trials: [],
    arrived: [],             // trials that the server has
    completion: null,        // a code or an address, once all have arrived
  };
}

function restore() {
  try {
    const kept = JSON.parse(localStorage.getItem(place));
    const known = new Set((study.lists[kept.list] ?? []).map((pair) => pair.trial));
    return kept.rater && kept.secret && kept.trials.every((answer) => known.has(answer.trial)) ? kept : fresh();
  } catch {
    return fresh();
  }
}

function keep() {
  try { localStorage.setItem(place, JSON.stringify(state)); } catch { /* forbidden here: only resuming is lost */ }
}

// sfc32 (Chris Doty-Humphrey, PractRand): the order of the pairs depends on the rater's number alone.
function numbers(rater) {
  let [a, b, c, d] = [parseInt(rater.slice(0, 8), 16), parseInt(rater.slice(8), 16), 0, 1];
  const next = () => {
    const sum = (((a + b) | 0) + d) | 0;
    d = (d + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + sum) | 0;
    return (sum >>> 0) / 2 ** 32;
  };
  for (let i = 0; i < 15; i += 1) next();
  return next;
}

function shuffled(pairs, rater) {
  const order = [...pairs];
  const next = numbers(rater);
  for (let last = order.length - 1; last > 0; last -= 1) {
    const other = Math.floor(next() * (last + 1));
    [order[last], order[other]] = [order[other], order[last]];
  }
  return order;
}

let state = restore();

const answered = () => new Set([...state.arrived, ...state.trials.map((answer) => answer.trial)]);
const practising = () => answered().size === 0 && state.practised < study.practice.length;
const finished = () => answered().size === total;

function queue() {
  const done = answered();
  const left = shuffled(study.lists[state.list] ?? [], state.rater).filter((pair) => !done.has(pair.trial));
  return practising() ? [...study.practice.slice(state.practised), ...left] : left;
}

function answers() {
  const { rater, trials } = state;
  const text = JSON.stringify({ study: study.study, rater, trials }, null, 1) + "\n";
  return { name: `answers-${study.study}-${rater}.json`, text };
}
