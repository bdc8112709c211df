"""What a person sees of a run in Prefect's own pages, in a real browser."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser import chromium
from tests.flows.conftest import Server, Watched


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, server: Server, watched: Watched) -> Iterator[Page]:
    """The page of the pipeline's run; the browser reaches this machine only."""
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    page.set_default_timeout(30_000)
    page.route(lambda url: not url.startswith(server.pages), lambda route: route.abort())
    page.goto(f"{server.pages}/runs/flow-run/{watched.run['id']}")
    yield page
    page.close()


def click(page: Page, text: str) -> None:
    page.get_by_text(text, exact=True).first.click()


def open_artifact(page: Page, training: str, name: str) -> None:
    """From the pipeline's run to one that it started, and to what that shows under `name`."""
    click(page, "Subflow Runs")
    page.get_by_placeholder("Search by run name").fill(training)
    click(page, training)
    expect(page.get_by_text("Parent Run")).to_be_visible()
    click(page, "Artifacts")
    click(page, name)


def test_the_run_of_the_pipeline_shows_its_stages_by_name(page, server, watched):
    names = set(server.children(watched.run))
    click(page, "Subflow Runs")
    expect(page.get_by_text(f"{len(names)} Flow runs")).to_be_visible()
    for model in {name.split()[-1] for name in names}:  # a page holds ten
        page.get_by_placeholder("Search by run name").fill(model)
        for name in names:
            if name.split()[-1] == model:
                expect(page.get_by_text(name, exact=True).last).to_be_visible()


def test_a_training_shows_its_progress_pace_and_loss(page):
    open_artifact(page, "train_diffusion text-f4", "train-diffusion-text-f4-figures")
    for figure in ("20 of 20", "throughput", "steps/s", "time left", "loss"):
        expect(page.get_by_role("cell", name=figure).first).to_be_visible()
    chart = page.get_by_role("img", name="scalars")
    expect(chart).to_be_visible()
    assert chart.evaluate("image => image.naturalWidth") == 640


def test_a_training_shows_how_far_it_is(page):
    open_artifact(page, "train_diffusion text-f4", "train-diffusion-text-f4-progress")
    expect(page.get_by_text("100%")).to_be_visible()


@pytest.mark.parametrize(
    ("training", "picture"), [("train_autoencoder kl-f4", "reconstructions"), ("train_diffusion sr-f1", "samples")]
)
def test_a_training_shows_its_latest_pictures(page, training, picture):
    open_artifact(page, training, f"{training.replace('_', '-').replace(' ', '-')}-{picture}")
    expect(page.get_by_text("after 20 of 20 steps")).to_be_visible()
    shown = page.get_by_role("img", name=picture)
    expect(shown).to_be_visible()
    assert shown.evaluate("image => image.complete && image.naturalWidth") >= 240
