"""The page and its server on a network that is slow, loses replies or is held back: nothing is lost or doubled."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
import uvicorn
from playwright.sync_api import Browser, Page, Request, Route, expect

from ldm.study import store
from ldm.study.guards import Rate
from ldm.study.server import Limits, application
from ldm.study.trials import sheet
from tests.browser import chromium
from tests.study.samples import Exported
from tests.study.serving import TOKEN, Serving, free_port

ASKING = ".asking"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(30_000)
    page.on("pageerror", lambda error: pytest.fail(f"the page raised {error}"))
    yield page
    context.close()


@contextmanager
def served(study: Exported, limits: Limits | None = None) -> Iterator[Serving]:
    """The study's server in a thread of this process."""
    one = Serving(study, port=free_port())
    app = application(study.public, one.database, TOKEN, limits)
    server = uvicorn.Server(uvicorn.Config(app, port=one.port, log_level="warning", access_log=False))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield one
    finally:
        server.should_exit = True
        thread.join()


def answer_all(page: Page, study: Exported) -> None:
    """From consent to thanks, always left."""
    page.get_by_role("button", name="I agree").click()
    page.get_by_role("button", name="Begin").click()
    for _ in study.lists[0]:
        page.wait_for_selector(ASKING)
        page.keyboard.press("ArrowLeft")
        page.wait_for_selector(ASKING, state="detached")
    expect(page.get_by_text("your answers have arrived")).to_be_visible(timeout=30_000)


def stored(serving: Serving) -> list[list[str]]:
    """The trials that each rater answered."""
    return [[answer["trial"] for answer in one["trials"]] for one, _ in store.read(serving.database)]


FRAMES = """{
  window.shows = [];
  let before = 0;
  const watch = (now) => {
    const images = [...document.querySelectorAll(".frame img")];
    if (images.length && !before) window.shows.push({ begun: now, ended: now, most: 0, fewest: 9, ready: true });
    if (images.length) {
      const show = window.shows.at(-1);
      show.ended = now;
      show.most = Math.max(show.most, images.length);
      show.fewest = Math.min(show.fewest, images.length);
      show.ready &&= images.every((image) => image.complete && image.naturalWidth > 0);
    }
    before = images.length;
    requestAnimationFrame(watch);
  };
  requestAnimationFrame(watch);
}"""
"""Sees in each frame which pictures are on the screen, without the page's own clockwork."""


def test_on_a_slow_network_the_clock_runs_from_when_all_pictures_are_on_the_screen(page, exported):
    study = exported(trials=1, catch=1, practice=0, seconds=0.3, enlarge=32)
    asked: list[tuple[str, float]] = []
    with served(study) as serving:
        page.on("request", lambda request: asked.append((request.url.removeprefix(serving.url), time.monotonic())))
        slow = page.context.new_cdp_session(page)
        slow.send("Network.enable")
        bytes_a_second = 12_000
        slow.send(
            "Network.emulateNetworkConditions",
            {
                "offline": False,
                "latency": 200,
                "downloadThroughput": bytes_a_second,
                "uploadThroughput": bytes_a_second,
            },
        )
        page.add_init_script(FRAMES)
        page.goto(serving.url, wait_until="commit")
        page.get_by_role("button", name="I agree").click()
        page.get_by_role("button", name="Begin").click()
        expect(page.locator("#hint")).to_have_text("Loading the pictures.")
        choices = []
        for _ in study.lists[0]:
            page.wait_for_selector(ASKING)
            choices.append(time.monotonic())
            page.keyboard.press("ArrowLeft")
            page.wait_for_selector(ASKING, state="detached")
        shows = page.evaluate("window.shows")
        expect(page.get_by_text("your answers have arrived")).to_be_visible(timeout=30_000)
        assert len(shows) == len(study.lists[0])
        for show in shows:
            assert show["most"] == show["fewest"] == 3  # all three, from the first frame to the last
            assert show["ready"]
            assert show["ended"] - show["begun"] > 300 - 2 * 17  # of frames at 60 Hz, the first and the last
        ((one, _),) = store.read(serving.database)
        assert all(295 <= answer["shown_ms"] < 1000 for answer in one["trials"])
    # Fetched ahead: what the second pair shows was asked for before the first was answered.
    second = next(pair for pair in study.page["lists"][0] if pair["trial"] == one["trials"][1]["trial"])
    assert all(at < choices[0] for path, at in asked if path in second.values())
    assert {path for path, _ in asked} >= {second["left"], second["right"], second["middle"]}


def test_a_reply_lost_after_its_answer_was_stored_counts_once(page, exported):
    study = exported(trials=1, catch=0, practice=0, seconds=0.05)
    lost: list[tuple[str, int]] = []

    def lose(route: Route) -> None:
        path = route.request.url
        if [before for before, _ in lost].count(path) < 2:
            lost.append((path, route.fetch().status))  # the server has done it, and the page never hears of it
            route.abort("connectionreset")
        else:
            route.continue_()

    with served(study) as serving:
        page.route("**/api/*", lose)
        page.goto(serving.url)
        answer_all(page, study)
        assert [status for _, status in lost] == [200] * 4  # two of the agreement, two of answers
        assert stored(serving) == [sheet(study.lists, 0)]
        counts = httpx.get(f"{serving.url}api/counts", headers={"Authorization": f"Bearer {TOKEN}"}).json()
    assert (counts["started"], counts["finished"], counts["answers"]) == (1, 1, 3)


def test_an_address_that_asks_too_often_is_slowed_down_and_the_page_goes_on(page, exported):
    study = exported(trials=1, catch=1, practice=0, seconds=0.05)
    refused: list[Request] = []
    page.on("response", lambda reply: refused.append(reply.request) if reply.status == 429 else None)
    with served(study, Limits(address=Rate(burst=4, per_second=6))) as serving:
        page.goto(serving.url)
        answer_all(page, study)
        assert {request.resource_type for request in refused} >= {"image"}
        assert stored(serving) == [sheet(study.lists, 0)]
        replies = [httpx.get(serving.url) for _ in range(12)]
        assert {reply.status_code for reply in replies} == {200, 429}
        assert replies[-1].json() == {"detail": "Too many requests. Wait a moment."}
        assert "default-src 'none'" in replies[-1].headers["content-security-policy"]


def test_who_comes_when_many_have_begun_is_told_so_and_goes_on_when_there_is_room(page, exported):
    study = exported(trials=1, catch=0, practice=0, seconds=0.05)
    with served(study, Limits(newcomers=Rate(burst=1, per_second=0.25))) as serving:
        first = {"rater": "0" * 16, "secret": "0" * 32, "study": study.page["study"], "agreed": True}
        assert httpx.post(f"{serving.url}api/raters", json=first).status_code == 200
        page.goto(serving.url)
        page.get_by_role("button", name="I agree").click()
        page.get_by_role("button", name="Begin").click()
        expect(page.get_by_role("heading", name="Connecting.")).to_be_visible()
        expect(page.locator("#link")).to_have_text("Many have begun from your network. Wait a while.")
        page.wait_for_selector(ASKING)
        expect(page.locator("#link")).to_have_text("")


def test_the_owner_sees_counts_grow_and_nobody_else_does(page, exported):
    study = exported(trials=1, catch=0, practice=0)
    with served(study) as serving, httpx.Client(base_url=serving.url) as client:
        page.clock.install()
        page.goto(f"{serving.url}owner")
        expect(page.get_by_label("The owner's token")).to_be_visible()
        expect(page.locator("#shown")).to_be_hidden()
        page.get_by_label("The owner's token").fill("not the owner's token")
        page.keyboard.press("Enter")
        expect(page.locator("#state")).to_have_text("Not the owner's token.")
        expect(page.locator("#shown")).to_be_hidden()
        assert study.page["study"] not in page.content()

        page.get_by_label("The owner's token").fill(TOKEN)
        page.keyboard.press("Enter")
        expect(page.locator("#shown")).to_be_visible()
        expect(page.locator("#started")).to_have_text("0")
        rater = {"rater": "0" * 16, "secret": "0" * 32}
        client.post("api/raters", json={**rater, "study": study.page["study"], "agreed": True})
        answers = [
            {"trial": trial, "choice": "left", "response_ms": 1, "shown_ms": 1, "looks": 1} for trial in study.lists[0]
        ]
        client.post("api/answers", json={**rater, "answers": answers[:2]})
        page.clock.fast_forward(5_000)
        expect(page.locator("#active")).to_have_text("1")
        expect(page.locator("#answers")).to_have_text("2")
        client.post("api/answers", json={**rater, "answers": answers})
        page.clock.fast_forward(5_000)
        expect(page.locator("#finished")).to_have_text("1")
        assert page.locator("#lists tr").first.inner_text().split() == ["0", "1", "0", "1", "3"]
        assert page.locator("#lists tr").count() == 6

        page.goto(f"{serving.url}owner#{TOKEN}")  # the link that the command prints
        page.reload()
        expect(page.locator("#finished")).to_have_text("1")
        assert json.dumps(answers[0]["trial"]) not in page.content()
