"""The report's page as a browser shows it: offline, in light and dark, on a phone, by keyboard, on paper."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page

from tests.browser import chromium

PHONE, DESKTOP = 390, 1280
DRAWN = "[...document.images].every(image => image.complete && image.naturalWidth > 0)"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def address(page: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("alone") / "index.html"  # without the plots beside it: one file is enough
    path.write_text(page, encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def rich(rich_report: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page with something of everything, alone."""
    path = tmp_path_factory.mktemp("alone") / "index.html"
    path.write_bytes((rich_report / "index.html").read_bytes())
    return path.as_uri()


@pytest.fixture
def opened(browser: Browser, address: str) -> Iterator[Callable[..., Page]]:
    pages = []

    def open_(width: int = DESKTOP, scheme: Literal["light", "dark"] = "light", at: str = address) -> Page:
        pages.append(browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme))
        pages[-1].goto(at)
        return pages[-1]

    yield open_
    for page in pages:
        page.close()


def test_asks_for_nothing_but_itself_and_complains_of_nothing(browser: Browser, address: str):
    page, asked, said = browser.new_page(), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("dialog", lambda dialog: said.append(dialog.message))
    page.goto(address, wait_until="networkidle")
    assert [url for url in asked if not url.startswith("data:")] == [address]
    assert said == []
    page.close()


def test_every_picture_is_drawn(opened: Callable[..., Page]):
    assert opened().evaluate(DRAWN)


def test_every_picture_of_a_page_without_its_files_is_drawn(opened: Callable[..., Page], rich: str):
    assert opened(at=rich).evaluate(DRAWN)


@pytest.mark.parametrize("width", [320, PHONE, 800, DESKTOP])
def test_the_page_never_scrolls_sideways(opened: Callable[..., Page], width: int):
    assert opened(width).evaluate("document.documentElement.scrollWidth") == width


@pytest.mark.parametrize("width", [320, PHONE, DESKTOP])
def test_wide_tables_and_charts_scroll_within_themselves(opened: Callable[..., Page], rich: str, width: int):
    page = opened(width, at=rich)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    wide = "[...document.querySelectorAll('.wide')].filter(one => one.scrollWidth > one.clientWidth)"
    assert page.evaluate(f"{wide}.every(one => one.tabIndex === 0 && one.getAttribute('aria-label'))")


@pytest.mark.parametrize("width", [320, PHONE, DESKTOP])
def test_what_a_row_is_called_stays_in_its_cell(opened: Callable[..., Page], rich: str, width: int):
    over = "[...document.querySelectorAll('th')].filter(one => one.scrollWidth > one.clientWidth)"
    assert opened(width, at=rich).evaluate(f"{over}.map(one => one.innerText)") == []


def test_a_contents_list_that_is_higher_than_the_window_scrolls(opened: Callable[..., Page], rich: str):
    page = opened(at=rich)
    page.set_viewport_size({"width": DESKTOP, "height": 300})
    page.locator("nav a").last.focus()
    last = page.locator("nav a").last.bounding_box()
    assert last is not None
    assert last["y"] + last["height"] <= 300
    assert page.evaluate("getComputedStyle(document.querySelector('nav')).overflowY") == "auto"


def test_a_picture_leads_to_its_file_by_mouse_and_keyboard(opened: Callable[..., Page], rich_report: Path):
    page = opened(at=(rich_report / "index.html").as_uri())
    link = page.locator("#task-mask td a").first
    box = link.bounding_box()
    assert box is not None
    assert box["height"] > 100  # the picture, not a line of text
    link.focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/pictures/strip-mask-*.png")


def test_text_of_the_whole_page_stands_out_from_the_paper(opened: Callable[..., Page], rich: str):
    for scheme in ("light", "dark"):
        page = opened(scheme=scheme, at=rich)
        paper = luminance(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        for selector in (".methods small", ".methods caption", ".pairs strong", ".pairs figcaption", ".chart a"):
            ink = luminance(page.evaluate(f"getComputedStyle(document.querySelector('{selector}')).color"))
            assert (max(ink, paper) + 0.05) / (min(ink, paper) + 0.05) > 4.5, selector


def test_small_pictures_keep_their_pixels(opened: Callable[..., Page]):
    page = opened()
    assert page.evaluate("getComputedStyle(document.querySelector('.gallery img')).imageRendering") == "pixelated"
    box = page.locator(".strip td img").first.bounding_box()
    assert box is not None
    assert (box["width"], box["height"]) == (128, 128)  # 8 pixels, 16 times


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_the_paper(opened: Callable[..., Page], scheme: str):
    style = "getComputedStyle(document.querySelector('{}')).{}"
    page = opened(scheme=scheme)
    paper = luminance(page.evaluate(style.format("body", "backgroundColor")))
    assert (paper < 0.1) == (scheme == "dark")
    for selector in ("body", "figcaption", ".measured td", "small", "main a"):
        ink = luminance(page.evaluate(style.format(selector, "color")))
        assert (max(ink, paper) + 0.05) / (min(ink, paper) + 0.05) > 4.5, selector  # WCAG 2.2, 1.4.3


def test_dark_paper_gets_the_curves_in_light_ink(opened: Callable[..., Page]):
    curve = "document.querySelector('.curves img').currentSrc"
    assert opened(scheme="dark").evaluate(curve) != opened(scheme="light").evaluate(curve)


def test_the_keyboard_reaches_the_contents_and_opens_what_is_folded(opened: Callable[..., Page]):
    page = opened()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.locator("#run summary").focus()
    page.keyboard.press("Enter")
    assert page.locator("#run pre").is_visible()


def test_it_prints(opened: Callable[..., Page], tmp_path: Path):
    opened(scheme="dark").pdf(path=tmp_path / "report.pdf")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")


def luminance(colour: str) -> float:
    """Relative luminance of `rgb(r, g, b)` (WCAG 2.2)."""
    values = [int(part) / 255 for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]
    r, g, b = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b
