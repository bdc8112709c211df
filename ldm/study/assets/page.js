"use strict";
(() => {
  const BLANK_MS = 600;        // empty frames before each pair, so that one does not mask the next
  const AHEAD = 3;             // pairs fetched and decoded before they are needed
  const HALF_FRAME_MS = 8;     // hide on the nearest frame, not on the first one after

  const study = JSON.parse(document.getElementById("study").textContent);
  const total = study.trials.length;
  const place = `picture-study-${study.study}`;
  const find = (id) => document.getElementById(id);
  const frames = document.querySelector(".frames");

  // ---- what is kept: enough to go on after a reload, and what becomes the file of answers

  function fresh() {
    const random = crypto.getRandomValues(new Uint8Array(8));
    const rater = Array.from(random, (byte) => byte.toString(16).padStart(2, "0")).join("");
    return { rater, practised: 0, looks: 0, trials: [] };
  }

  function restore() {
    try {
      const kept = JSON.parse(localStorage.getItem(place));
      const known = kept.trials.every((answer, i) => i < total && answer.trial === study.trials[i].trial);
      return known && kept.rater ? kept : fresh();
    } catch {
      return fresh();
    }
  }

  function keep() {
    try { localStorage.setItem(place, JSON.stringify(state)); } catch { /* forbidden here: only resuming is lost */ }
  }

  let state = restore();
  let asking = null;           // the pair that waits for its answer, and since when
  let turn = 0;                // counts what is on the screen; whatever began in an earlier turn stops

  const practising = () => state.trials.length === 0 && state.practised < study.practice.length;
  const finished = () => state.trials.length === total;
  const queue = () => [...study.practice.slice(state.practised), ...study.trials.slice(state.trials.length)];

  // ---- pictures

  const loaded = new Map();

  async function picture(path) {
    const image = new Image();
    image.alt = "";
    image.draggable = false;
    image.src = path;
    await image.decode();
    return image;
  }

  function load(pair) {
    if (!loaded.has(pair.trial)) {
      const slots = ["left", "middle", "right"].filter((slot) => pair[slot]);
      const all = Promise.all(slots.map(async (slot) => [slot, await picture(pair[slot])]));
      all.catch(() => loaded.delete(pair.trial));
      loaded.set(pair.trial, all);
    }
    return loaded.get(pair.trial);
  }

  const loadAhead = () => queue().slice(0, AHEAD).forEach(load);

  // ---- time

  const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
  const frame = () => new Promise((resolve) => requestAnimationFrame(resolve));

  // ---- views

  function view(name) {
    turn += 1;
    asking = null;
    clear();
    unmark();
    document.querySelectorAll("[data-view]").forEach((section) => { section.hidden = section.dataset.view !== name; });
    find("bar").hidden = name === "intro";
    find("progress").value = state.trials.length;
    find("count").textContent = `${state.trials.length} of ${total}`;
    find("done-so-far").textContent = state.trials.length;
    if (name === "done") {
      find("file").textContent = file().name;
      find("answers").value = file().text;
    }
    const section = document.querySelector(`[data-view="${name}"]`);
    (section.querySelector(".go") || section.querySelector("h1")).focus({ preventScroll: true });
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
    if (finished()) { view("done"); return; }
    const practice = practising();
    const pair = queue()[0];
    const number = state.trials.length + 1;
    if (document.querySelector('[data-view="trial"]').hidden) view("trial"); else turn += 1;
    const mine = turn;
    find("bar").hidden = false;
    find("progress").value = state.trials.length;
    find("count").textContent = practice ? "Practice" : `${number} of ${total}`;
    say(practice ? "Practice. Look." : `Pair ${number} of ${total}. Look.`, "");

    let images;
    try {
      [images] = await Promise.all([load(pair), wait(BLANK_MS)]);
    } catch {
      if (mine === turn) view("failed");
      return;
    }
    if (mine !== turn) return;

    state.looks += 1;
    keep();
    await frame();
    if (mine !== turn) return;
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
        response_ms: Math.max(0, Math.round(performance.now() - since)),
        shown_ms: Math.round(shown),
        looks: state.looks,
      });
    }
    state.looks = 0;
    keep();
    if (finished()) { view("done"); download(); }
    else if (practice && !practising()) view("ready");
    else show();
  }

  // ---- the file of answers

  function file() {
    const answers = { study: study.study, rater: state.rater, trials: state.trials };
    return { name: `answers-${study.study}-${state.rater}.json`, text: JSON.stringify(answers, null, 1) + "\n" };
  }

  function download() {
    const { name, text } = file();
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
    find("status").textContent = `Your answers are saved as ${name}.`;
  }

  // ---- the rater

  const actions = {
    begin: show,
    continue: show,
    download,
    restart() { state = fresh(); keep(); loadAhead(); view("intro"); },
  };

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

  loadAhead();
  if (finished()) view("done");
  else if (state.trials.length || state.practised) view("paused");
  else view("intro");
})();
