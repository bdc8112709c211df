"""The rater's page in a real browser: exposure, answers by key, click and touch, resuming, the file of answers."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from ldm.study.scoring import score
from ldm.study.trials import sheet
from tests.browser import chromium
from tests.study.samples import Exported
from tests.study.serving import Serving, free_port

ASKING = ".asking"
SHOWN = ".frame img"

WATCH = """() => {
  window.seen = [];
  let begun = null;
  const watch = (now) => {
    const there = document.querySelectorAll(".frame img").length > 0;
    if (there && begun === null) begun = now;
    if (!there && begun !== null) { window.seen.push(now - begun); begun = null; }
    requestAnimationFrame(watch);
  };
  requestAnimationFrame(watch);
}"""
"""Measures how long pictures are in the page, without the page's own clockwork."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def opened(browser: Browser) -> Iterator[Callable[..., Page]]:
    contexts = []

    def open_(study: Exported, query: str = "", **options) -> Page:
        contexts.append(browser.new_context(accept_downloads=True, **options))
        page = contexts[-1].new_page()
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: pytest.fail(f"the page raised {error}"))
        page.goto((study.public / "index.html").as_uri() + query)
        return page

    yield open_
    for context in contexts:
        context.close()


def side(page: Page, study: Exported, better: dict[str, int]) -> str:
    """What a rater with the ranks `better` chooses for the pair on the screen, practice at random."""
    entry = study.trials.get(page.locator(".frames").get_attribute("data-trial"))
    if entry is None:
        return "left"
    return "left" if better[entry["left"]] > better[entry["right"]] else "right"


def agree(page: Page) -> None:
    expect(page.get_by_role("button", name="I agree")).to_be_focused()
    page.keyboard.press("Enter")


def begin(page: Page) -> None:
    """Past consent, introduction and the one practice pair, to the first pair."""
    agree(page)
    page.keyboard.press("Enter")
    page.wait_for_selector(ASKING)
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_role("heading", name="That was practice.")).to_be_visible()
    page.keyboard.press("Enter")


def test_a_study_done_by_keyboard_gives_back_the_preference(opened, exported, tmp_path):
    study = exported(trials=2, catch=1, seconds=0.1)
    page = opened(study)
    begin(page)
    better = {"mosaic": 0, "original": 1, "second": 2, "first": 3}
    with page.expect_download() as download:
        for _ in study.lists[0]:
            page.wait_for_selector(ASKING)
            page.keyboard.press({"left": "ArrowLeft", "right": "ArrowRight"}[side(page, study, better)])
            page.wait_for_selector(ASKING, state="detached")
    file = tmp_path / download.value.suggested_filename
    download.value.save_as(file)
    assert re.fullmatch(r"answers-[0-9a-f]{16}-[0-9a-f]{16}\.json", file.name)
    result = score(study.key, [file])
    assert result.first_over_original.share == result.second_over_original.share == 1
    assert result.first_over_second.share == 1
    assert [(r.right, r.checks, r.seen_again) for r in result.raters] == [(1, 1, 0)]
    assert json.loads(page.locator("[data-view=done] .answers").input_value()) == json.loads(file.read_text())
    expect(page.get_by_text("Send the file to the laboratory.")).to_be_visible()


def test_pictures_are_shown_for_their_time_and_then_gone(opened, exported):
    page = opened(exported(seconds=0.5))
    page.evaluate(WATCH)
    agree(page)
    page.keyboard.press("Enter")
    page.wait_for_selector(SHOWN)
    assert page.locator(SHOWN).count() == 3
    page.keyboard.press("ArrowLeft")  # too early: counts for nothing
    page.wait_for_selector(ASKING)
    assert page.locator("img").count() == 0
    page.wait_for_function("window.seen.length === 1")
    assert 450 < page.evaluate("window.seen[0]") < 1000  # never shorter; a busy machine may be late
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_role("heading", name="That was practice.")).to_be_visible()


def test_a_reload_goes_on_where_the_rater_was(opened, exported):
    study = exported(seconds=0.1)
    page = opened(study)
    begin(page)
    for _ in range(2):
        page.wait_for_selector(ASKING)
        page.keyboard.press("ArrowRight")
        page.wait_for_selector(ASKING, state="detached")
    page.reload()
    expect(page.get_by_text(f"2 of {len(study.lists[0])} pairs are done.")).to_be_visible()
    page.keyboard.press("Enter")
    page.wait_for_selector(ASKING)
    assert page.locator("#count").inner_text() == f"3 of {len(study.lists[0])}"
    page.reload()  # the third was seen but not answered: it is shown again, and the answer says so
    page.keyboard.press("Enter")
    page.wait_for_selector(ASKING)
    page.keyboard.press("ArrowLeft")
    looks = "JSON.parse(Object.values(localStorage)[0]).trials.map((t) => t.looks)"
    assert page.evaluate(looks) == [1, 1, 2]


def test_who_looks_away_sees_the_pair_again(opened, exported):
    page = opened(exported(seconds=5))
    agree(page)
    page.keyboard.press("Enter")
    page.wait_for_selector(SHOWN)
    page.evaluate(
        "() => { Object.defineProperty(document, 'hidden', {value: true, configurable: true});"
        " document.dispatchEvent(new Event('visibilitychange')); }"
    )
    expect(page.get_by_role("heading", name="Paused.")).to_be_visible()
    assert page.locator("img").count() == 0


def test_touch_and_click_answer_too_on_a_phone_without_scrolling(opened, exported):
    study = exported(seconds=0.1, practice=0)
    page = opened(study, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page.get_by_role("button", name="I agree").tap()
    page.get_by_role("button", name="Begin").tap()
    page.wait_for_selector(ASKING)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate("document.documentElement.scrollHeight <= innerHeight")
    page.get_by_role("button", name="Right picture").tap()
    page.wait_for_selector(ASKING, state="detached")
    page.wait_for_selector(ASKING)
    page.get_by_role("button", name="Left picture").click()
    stored = "JSON.parse(Object.values(localStorage)[0]).trials.map((t) => t.choice)"
    assert page.evaluate(stored) == ["right", "left"]


def test_a_missing_picture_stops_the_study_and_loses_nothing(opened, exported):
    study = exported(seconds=0.1, practice=0)
    kept = {path: path.read_bytes() for path in (study.public / "pictures").iterdir()}
    for path in kept:
        path.unlink()
    page = opened(study)
    agree(page)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="A picture did not load.")).to_be_visible()
    for path, content in kept.items():
        path.write_bytes(content)
    page.keyboard.press("Enter")
    page.wait_for_selector(ASKING)


def test_the_page_asks_for_nothing_but_its_own_pictures(browser, exported):
    study = exported(seconds=0.1)
    page = browser.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((study.public / "index.html").as_uri())
    begin(page)
    page.wait_for_selector(ASKING)
    page.close()
    root = study.public.as_uri()
    assert all(url.startswith((root, "data:")) for url in asked), asked
    names = {Path(url).name for url in asked if url.endswith(".png")}
    assert names <= {path.name for path in (study.public / "pictures").iterdir()}


def test_what_happens_is_said_to_those_who_cannot_see_it(opened, exported):
    page = opened(exported(seconds=0.1))
    status = page.get_by_role("status")
    agree(page)
    assert page.evaluate("document.activeElement.textContent.trim()") == "Try it"
    page.keyboard.press("Enter")
    expect(status).to_have_text("Practice. Look.")
    page.wait_for_selector(ASKING)
    expect(status).to_have_text("Hidden. Left or right?")
    assert page.get_by_role("button", name="Left picture").get_attribute("aria-disabled") is None


@pytest.mark.parametrize("number", [7, 3 * 6 + 14])
def test_a_rater_gets_the_pairs_of_a_sheet_in_its_order(opened, exported, number):
    study = exported(seconds=0.05, practice=0, trials=1, catch=0)
    page = opened(study, f"?sheet={number}")
    agree(page)
    page.keyboard.press("Enter")
    seen = []
    for _ in study.lists[0]:
        page.wait_for_selector(ASKING)
        seen.append(page.locator(".frames").get_attribute("data-trial"))
        page.keyboard.press("ArrowLeft")
        page.wait_for_selector(ASKING, state="detached")
    assert seen == sheet(study.lists, number)


def test_a_page_without_a_sheet_takes_any_and_keeps_it(opened, exported):
    study = exported(seconds=0.05, practice=0, trials=2, catch=0)
    sheets = set()
    for query in ("", "?sheet=", "?sheet=-1", "?sheet=x"):
        page = opened(study, query)
        agree(page)
        kept = page.evaluate("JSON.parse(Object.values(localStorage)[0]).sheet")
        page.reload()
        assert page.evaluate("JSON.parse(Object.values(localStorage)[0]).sheet") == kept
        assert kept in range(6 * 6)
        sheets.add(kept)
    assert len(sheets) > 1  # 1 in 46,656 that all four are the same


CONTRAST = """() => [...document.querySelectorAll("section:not([hidden]) *")]
  .filter((e) => e.innerText && !e.children.length)
  .map((e) => {
    const light = (colour) => {
      const parts = colour.match(/[\\d.]+/g).slice(0, 3).map((v) => v / 255)
        .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
      return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
    };
    let under = e;
    while (getComputedStyle(under).backgroundColor === "rgba(0, 0, 0, 0)") under = under.parentElement;
    const [a, b] = [light(getComputedStyle(e).color), light(getComputedStyle(under).backgroundColor)].sort();
    return (b + 0.05) / (a + 0.05);
  })"""
"""The contrast of each text on the screen with what is behind it, as WCAG 2.2 computes it."""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast_and_fits_a_narrow_or_zoomed_page(opened, exported, scheme):
    page = opened(exported(), color_scheme=scheme, viewport={"width": 320, "height": 568})  # 1280 px at 400 %
    for press in ("I agree", "Try it"):
        assert min(page.evaluate(CONTRAST)) >= 4.5
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.get_by_role("button", name=press).click()
    page.wait_for_selector(ASKING)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    named = "[...document.querySelectorAll('button, progress, [role=img]')]"
    names = page.evaluate(f"{named}.map((e) => e.ariaLabel || e.textContent)")
    assert all(name.strip() for name in names)


def test_words_of_the_study_are_text_never_markup(opened, exported):
    evil = "</script><script>window.evil = 1</script><img src=x onerror='window.evil = 1'>"
    page = opened(exported(question=evil, consent=evil, hand_in=evil))
    expect(page.locator(".consent")).to_have_text(evil)
    agree(page)
    expect(page.locator("blockquote")).to_have_text(evil)
    assert page.evaluate("window.evil") is None


def test_a_picture_that_never_comes_is_given_up_and_asked_for_again(browser, exported):
    """A connection may stay silent for ever: neither an error nor a picture."""
    study = exported(seconds=0.1)
    page, asked = browser.new_page(), list[str]()
    page.clock.install()

    def pictures_are_silent_at_first(route: Route) -> None:
        path = urlsplit(route.request.url).path.removeprefix("/")
        asked.append(path)
        if not path.startswith("pictures/") or asked.count(path) > 1:
            route.fulfill(path=study.public / path)

    page.route("http://study.test/**", pictures_are_silent_at_first)
    page.goto("http://study.test/index.html", wait_until="domcontentloaded")  # silent pictures hold back load itself
    page.get_by_role("button", name="I agree").click()
    page.get_by_role("button", name="Try it").click()
    for _ in range(8):
        page.clock.fast_forward(3_000)
    page.wait_for_selector(ASKING)
    assert max(map(asked.count, asked)) == 2
    page.close()


@pytest.mark.parametrize("completion", ["C0MPLETED", "{url}owner?cc=C0MPLETED"])
def test_who_has_finished_on_a_server_gets_a_code_or_goes_back_to_the_platform(browser, exported, completion):
    port = free_port()
    completion = completion.format(url=f"http://127.0.0.1:{port}/")
    serving = Serving(exported(trials=1, catch=0, seconds=0.1, completion=completion), port=port)
    serving.start()
    page = browser.new_page()
    page.set_default_timeout(20_000)
    try:
        page.goto(serving.url)
        begin(page)
        for _ in serving.study.lists[0]:
            page.wait_for_selector(ASKING)
            page.keyboard.press("ArrowLeft")
            page.wait_for_selector(ASKING, state="detached")
        if completion.startswith("http"):
            page.wait_for_url(completion)
        else:
            expect(page.locator("#code")).to_have_text("C0MPLETED")
            expect(page.locator("#away")).to_be_hidden()
            page.reload()
            expect(page.locator("#code")).to_have_text("C0MPLETED")
    finally:
        page.close()
        serving.stop()
