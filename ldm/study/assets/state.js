// What is kept: enough to go on after a reload, and what is handed in at the end.

const study = JSON.parse(document.getElementById("study").textContent);
const handIn = document.querySelector('meta[name="hand-in"]').content;   // file, server or task
const served = handIn === "server";
const total = study.lists[0].length;
const place = `picture-study-${study.study}`;
const MOST_MS = 1e9;         // what the server takes as a time: eleven days

const hex = (bytes) => Array.from(crypto.getRandomValues(new Uint8Array(bytes)), (b) => b.toString(16).padStart(2, "0")).join("");

function fresh() {
  const asked = Number.parseInt(new URLSearchParams(location.search).get("sheet"), 10);
  const any = crypto.getRandomValues(new Uint32Array(1))[0] % (study.lists.length * total);
  return {
    rater: hex(8),
    secret: hex(16),
    agreed: false,
    sheet: served ? null : asked >= 0 ? asked : any,
    practised: 0,
    looks: 0,
    trials: [],
    arrived: [],             // trials that the server has
    completion: null,        // a code or an address, once all have arrived
  };
}

// The pairs of one rater in order, as `sheet` of ldm/study/trials.py has them: a list, begun at one of its pairs.
function sheet(number) {
  if (number === null) return [];
  const own = study.lists[number % study.lists.length];
  const start = (Math.floor(number / study.lists.length) * study.stride) % total;
  return [...own.slice(start), ...own.slice(0, start)];
}

function restore() {
  try {
    const kept = JSON.parse(localStorage.getItem(place));
    const known = new Set(sheet(kept.sheet).map((pair) => pair.trial));
    return kept.rater && kept.secret && kept.trials.every((answer) => known.has(answer.trial)) ? kept : fresh();
  } catch {
    return fresh();
  }
}

function keep() {
  try { localStorage.setItem(place, JSON.stringify(state)); } catch { /* forbidden here: only resuming is lost */ }
}

let state = restore();

const answered = () => new Set([...state.arrived, ...state.trials.map((answer) => answer.trial)]);
const practising = () => answered().size === 0 && state.practised < study.practice.length;
const finished = () => answered().size === total;

function queue() {
  const done = answered();
  const left = sheet(state.sheet).filter((pair) => !done.has(pair.trial));
  return practising() ? [...study.practice.slice(state.practised), ...left] : left;
}

function answers() {
  const { rater, trials } = state;
  const text = JSON.stringify({ study: study.study, rater, trials }, null, 1) + "\n";
  return { name: `answers-${study.study}-${rater}.json`, text };
}
