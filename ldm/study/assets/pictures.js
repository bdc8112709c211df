// Pictures, fetched and decoded before they are needed, and asked for again where the network fails.

const AHEAD = 3;             // pairs
const AGAIN_MS = [400, 1200, 3000];
const PATIENCE_MS = 20000;   // with the first attempt, and longer with each: a connection may be silent for ever

const loaded = new Map();
const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const frame = () => new Promise((resolve) => requestAnimationFrame(resolve));

async function picture(path) {
  for (let attempt = 0; ; attempt += 1) {
    const image = new Image();
    image.alt = "";
    image.draggable = false;
    image.src = path;
    const late = wait(PATIENCE_MS * (attempt + 1)).then(() => { throw new Error("late"); });
    try {
      await Promise.race([image.decode(), late]);
      return image;
    } catch (error) {
      image.src = "";          // gives a silent connection up
      if (attempt === AGAIN_MS.length) throw error;
      await wait(AGAIN_MS[attempt]);
    }
  }
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
