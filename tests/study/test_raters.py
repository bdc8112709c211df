"""A hundred raters in a real browser at a real server that is killed in the middle: each answer counts once."""

import asyncio
import random
import time
from collections.abc import Iterator
from itertools import chain

import pytest
from playwright.async_api import Browser, Error, Page, async_playwright

from ldm.study import store
from ldm.study.scoring import score
from tests.browser import FLAGS, needed
from tests.study.serving import Serving

RATERS = 100
AT_ONCE = 32
PREFERS = {
    frozenset({"first", "second"}): 0.7,
    frozenset({"first", "original"}): 0.35,
    frozenset({"second", "original"}): 0.2,
}
"""How often raters choose the one named first, in all; where nothing is said the evident one always."""
BETTER = ("first", "second", "original", "mosaic")
NEXT = """(at) => new Promise((resolve) => {
  const frames = document.querySelector(".frames");
  const look = () => {
    const { view } = document.querySelector("[data-view]:not([hidden])").dataset;
    const asks = frames.classList.contains("asking") && frames.dataset.trial !== at;
    if (!asks && !["ready", "failed", "done"].includes(view)) return;
    watch.disconnect();
    resolve([view, frames.dataset.trial]);
  };
  const watch = new MutationObserver(look);
  watch.observe(document.querySelector("main"), { subtree: true, attributes: true });
  look();
})"""
"""What is to be done next, once the page says so: asked in every frame of 32 pages, browsers do little else."""


@pytest.fixture
def serving(exported) -> Iterator[Serving]:
    study = exported(trials=2, catch=1, practice=1, seconds=0.05, task="any", catch_pass=1.0, enlarge=2)
    one = Serving(study, ["--newcomers", str(RATERS)])
    one.start()
    yield one
    one.stop()


def opinions(share: float) -> Iterator[bool]:
    """In a drawn order, but of every twenty just this share: pages come in no order that a seed could fix."""
    chance = random.Random(share)
    while True:
        yield from chance.sample([number < round(20 * share) for number in range(20)], 20)


def choice(trials: dict[str, dict[str, str]], trial: str, crowd: dict[frozenset[str], Iterator[bool]]) -> str:
    entry = trials.get(trial)
    if entry is None or "mosaic" in entry.values():
        return "left" if entry is None or entry["left"] == "original" else "right"
    one = next(name for name in BETTER if name in (entry["left"], entry["right"]))
    chosen = next(crowd[frozenset({entry["left"], entry["right"]})])
    return "left" if chosen == (entry["left"] == one) else "right"


async def sit_down(browser: Browser, serving: Serving) -> Page:
    """A browser of its own, with nothing kept or cached."""
    context = await browser.new_context(viewport={"width": 480, "height": 360})
    page = await context.new_page()
    page.set_default_timeout(90_000)
    await arrive(page, serving.url)
    return page


async def rate(page: Page, serving: Serving, trials: dict, crowd: dict, number: int) -> tuple[str, dict[str, str]]:
    """One person from consent to thanks; every fifth reloads the page on the way. Returns number and choices."""
    await page.get_by_role("button", name="I agree").click()
    await page.keyboard.press("Enter")
    chosen, at = {}, None
    while True:
        view, trial = await page.evaluate(NEXT, at)
        if view == "done":
            break
        if view != "trial":  # practice is over, or a picture did not load: go on
            await page.keyboard.press("Enter")
            continue
        at = trial
        side = choice(trials, trial, crowd)
        if trial in trials:
            assert trial not in chosen
            chosen[trial] = side
        await page.keyboard.press("ArrowLeft" if side == "left" else "ArrowRight")
        if number % 5 == 0 and len(chosen) == 3:
            await arrive(page, serving.url)
            await page.wait_for_selector("[data-view=paused]:not([hidden])")
            await page.keyboard.press("Enter")
    kept = await page.evaluate("JSON.parse(Object.values(localStorage)[0]).rater")
    await page.get_by_text("Someone else takes part on this device").click()
    await page.get_by_role("button", name="Start again").click()
    return kept, chosen


async def arrive(page: Page, url: str) -> None:
    """Open the page, or load it again; again and again while the server is away."""
    for _ in range(200):
        try:
            await page.goto(url)
            return
        except Error as error:
            if "net::ERR_" not in str(error):  # refused, reset, empty, a socket that is gone
                raise
            await asyncio.sleep(0.3)
    raise AssertionError("the server does not come back")


async def everyone(serving: Serving, trials: dict) -> dict[str, dict[str, str]]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=needed(), args=FLAGS)
        crowd = {pair: opinions(share) for pair, share in PREFERS.items()}
        queue = iter(range(RATERS))

        async def seat() -> list[tuple[str, dict[str, str]]]:
            """One rater after another, as long as there are any."""
            page = await sit_down(browser, serving)
            return [await rate(page, serving, trials, crowd, number) for number in queue]

        async def disaster() -> None:
            total = RATERS * len(serving.study.lists[0])
            while sum(len(r["trials"]) for r, _ in store.read(serving.database)) < total // 2:
                await asyncio.sleep(0.2)
            await asyncio.to_thread(serving.stop)
            await asyncio.sleep(2)
            await asyncio.to_thread(serving.start)

        _, *done = await asyncio.gather(disaster(), *[seat() for _ in range(AT_ONCE)])
        await browser.close()
    return dict(chain.from_iterable(done))


def test_a_hundred_raters_and_a_killed_server_give_the_preference_and_every_answer_once(serving):
    began = time.monotonic()
    chosen = asyncio.run(everyone(serving, serving.study.trials))
    print(f"{RATERS} raters in {time.monotonic() - began:.0f} s")

    read = store.read(serving.database)
    found = [one for one, _ in read]
    assert {one["rater"]: {a["trial"]: a["choice"] for a in one["trials"]} for one in found} == chosen
    assert len(chosen) == RATERS
    assert all(whole for _, whole in read)
    assert all(len(one["trials"]) == len(serving.study.lists[0]) for one in found)
    lists = [
        next(i for i, names in enumerate(serving.study.lists) if trial in names)
        for trial in map(first, chosen.values())
    ]
    assert max(map(lists.count, range(6))) - min(map(lists.count, range(6))) <= 1

    result = score(serving.study.key, [serving.database])
    for share, pair in (
        (result.first_over_second, ("first", "second")),
        (result.first_over_original, ("first", "original")),
        (result.second_over_original, ("second", "original")),
    ):
        assert share.answers == 2 * RATERS
        assert share.low < PREFERS[frozenset(pair)] < share.high
    assert sum(rater.counted for rater in result.raters) == RATERS


def first(chosen: dict[str, str]) -> str:
    return next(iter(chosen))
