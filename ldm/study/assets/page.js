// The rater's way: consent, how it goes, practice, pairs, thanks.

const BLANK_MS = 600;        // empty frames before each pair, so that one does not mask the next
const HALF_FRAME_MS = 8;     // hide on the nearest frame, not on the first one after
const SLOW_MS = 1500;        // say that pictures are still loading

const find = (id) => document.getElementById(id);
const frames = document.querySelector(".frames");

let asking = null;           // the pair that waits for its answer, and since when
let turn = 0;                // counts what is on the screen; whatever began in an earlier turn stops
let enrolling = null;

// ---- views

function view(name) {
  turn += 1;
  asking = null;
  clear();
  unmark();
  document.querySelectorAll("[data-view]").forEach((section) => { section.hidden = section.dataset.view !== name; });
  find("bar").hidden = ["consent", "how"].includes(name);
  const done = answered().size;
  find("progress").value = done;
  find("count").textContent = `${done} of ${total}`;
  find("done-so-far").textContent = done;
  find("file").textContent = answers().name;
  document.querySelectorAll(".answers").forEach((text) => { text.value = answers().text; });
  const section = document.querySelector(`[data-view="${name}"]`);
  const go = [...section.querySelectorAll(".go")].find((button) => button.checkVisibility());
  (go ?? section.querySelector("h1")).focus({ preventScroll: true });
  window.scrollTo(0, 0);
}

function clear() {
  frames.querySelectorAll("img").forEach((image) => image.remove());
  frames.classList.remove("asking");
  frames.querySelectorAll("button").forEach((button) => button.setAttribute("aria-disabled", "true"));
}

const unmark = () => frames.querySelectorAll(".chosen").forEach((button) => button.classList.remove("chosen"));

function say(words, hint = words) {
  find("status").textContent = words;
  find("hint").textContent = hint;
}

// ---- one pair: blank, look, ask

async function show() {
  if (state.sheet === null) { waitForSheet(); return; }
  if (finished()) { end(); return; }
  const practice = practising();
  const pair = queue()[0];
  const done = answered().size;
  if (document.querySelector('[data-view="trial"]').hidden) view("trial"); else turn += 1;
  const mine = turn;
  find("bar").hidden = false;
  find("progress").value = done;
  find("count").textContent = practice ? "Practice" : `${done + 1} of ${total}`;
  frames.dataset.trial = pair.trial;
  say(practice ? "Practice. Look." : `Pair ${done + 1} of ${total}. Look.`, "");

  const slow = setTimeout(() => { if (mine === turn) say("Loading the pictures."); }, SLOW_MS);
  let images;
  try {
    [images] = await Promise.all([load(pair), wait(BLANK_MS)]);
  } catch {
    if (mine === turn) view("failed");
    return;
  } finally {
    clearTimeout(slow);
  }
  if (mine !== turn) return;

  state.looks += 1;
  keep();
  await frame();
  if (mine !== turn) return;
  find("hint").textContent = "";
  unmark();
  images.forEach(([slot, image]) => find(slot).append(image));
  const begun = await frame();
  let now = begun;
  while (mine === turn && now - begun < study.seconds * 1000 - HALF_FRAME_MS) now = await frame();
  if (mine !== turn) return;

  clear();
  frames.classList.add("asking");
  frames.querySelectorAll("button").forEach((button) => button.removeAttribute("aria-disabled"));
  asking = { pair, practice, since: now, shown: now - begun };
  say("Hidden. Left or right?", "Left or right?");
  loaded.delete(pair.trial);
  loadAhead();
}

function choose(side) {
  if (!asking) return;
  const { pair, practice, since, shown } = asking;
  asking = null;
  clear();
  find(side).classList.add("chosen");
  if (practice) {
    state.practised += 1;
  } else {
    state.trials.push({
      trial: pair.trial,
      choice: side,
      response_ms: Math.min(MOST_MS, Math.max(0, Math.round(performance.now() - since))),
      shown_ms: Math.min(MOST_MS, Math.round(shown)),
      looks: state.looks,
    });
  }
  state.looks = 0;
  keep();
  if (served && !practice) deliver().catch(refused);
  if (finished()) end();
  else if (practice && !practising()) view("ready");
  else show();
}

// ---- the end, and what a server says on the way there

function end() {
  if (!served) { view("done"); if (handIn === "file" && !state.saved) download(); return; }
  if (unsent().length === 0) { thank(); return; }
  view("sending");
  const mine = state;
  deliver().then(() => { if (mine === state) thank(); }, refused);
}

function thank() {
  view("done");
  const { completion } = state;
  if (!completion) return;
  const away = /^https?:\/\//.test(completion);
  find("completion").hidden = false;
  find("code").hidden = away;
  find("code").textContent = completion;
  find("away").hidden = !away;
  if (!away) return;
  find("away").href = completion;
  location.assign(completion);
}

const connect = () => (enrolling ??= enrol().then(deliver).finally(() => { enrolling = null; }));

async function waitForSheet() {
  view("waiting");
  const mine = turn;
  try {
    await connect();
  } catch (error) {
    refused(error);
    return;
  }
  loadAhead();
  if (mine === turn) show();
}

function refused(error) {
  if (!(error instanceof Refused)) throw error;
  find("refusal").textContent = error.message;
  view("refused");
}

function connected(yes, otherwise = "No connection: your answers are kept and sent later.") {
  find("link").textContent = yes ? "" : otherwise;
}

function download() {
  const { name, text } = answers();
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  state.saved = true;
  keep();
  find("status").textContent = `Your answers are saved as ${name}.`;
}

// ---- the rater

function agree() {
  state.agreed = true;
  keep();
  if (served) connect().catch(refused);
  loadAhead();
  view("how");
}

function restart() {
  document.querySelectorAll("details").forEach((one) => { one.open = false; });
  state = fresh();
  keep();
  start();
}

const actions = { agree, begin: show, continue: show, download, restart };

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button?.dataset.action) actions[button.dataset.action]();
  else if (button?.dataset.side) choose(button.dataset.side);
});

document.addEventListener("keydown", (event) => {
  const side = { ArrowLeft: "left", ArrowRight: "right" }[event.key];
  if (!side || event.ctrlKey || event.metaKey || event.altKey) return;
  if (document.querySelector('[data-view="trial"]').hidden) return;
  event.preventDefault();
  if (!event.repeat) choose(side);
});

// Who looks away in the middle of a pair sees it again from the start, and the answer says how often it was seen.
document.addEventListener("visibilitychange", () => {
  const looking = !document.querySelector('[data-view="trial"]').hidden && !asking;
  if (document.hidden && looking) view("paused");
});

// Another tab of this browser went on: this one stops where it is and knows what that one did.
window.addEventListener("storage", (event) => {
  if (event.key !== place) return;
  state = restore();
  start();
});

function start() {
  loadAhead();
  if (finished()) end();
  else if (!state.agreed) view("consent");
  else if (answered().size || state.practised) view("paused");
  else view("how");
}

document.querySelectorAll("[data-hand-in]").forEach((part) => {
  part.hidden = part.dataset.handIn !== handIn;
});
frames.style.setProperty("--width", study.width);
frames.style.setProperty("--height", study.height);
start();
if (served && state.agreed) connect().then(() => { if (finished()) end(); }, refused);
