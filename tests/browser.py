"""A real Chromium without a window, for tests of the pages that people see."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Error, sync_playwright

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--no-first-run",
    "--password-store=basic",
]
"""No sandbox, for tests run as root in containers; no background networking, for nothing should be fetched."""


def executable() -> str | None:
    """Path of the system's Chromium; the variable CHROMIUM names another."""
    names = [os.environ.get("CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome"]
    return next((path for name in names if name and (path := shutil.which(name))), None)


def needed() -> str:
    """Path of the system's Chromium; skips the test, saying how to get it, where there is none."""
    path = executable()
    if path is None:
        pytest.skip("no Chromium on this machine (apt-get install chromium, or set CHROMIUM to its path)")
    return path


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless Chromium; skips the test, saying why, where there is none."""
    path = needed()
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        except Error as error:
            pytest.skip(f"Chromium at {path} does not start: {str(error).splitlines()[0]}")
        try:
            yield browser
        finally:
            browser.close()
