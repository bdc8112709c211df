"""Run folders made by hand, and the page built from each."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ldm.report.build import build
from tests.report.made import write_run
from tests.report.rich import write_rich


@pytest.fixture(scope="session")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder in which every stage but the report has run. Copy it before you change it."""
    root = tmp_path_factory.mktemp("run")
    write_run(root)
    return root


@pytest.fixture
def own_run(whole_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole_run, tmp_path / "run"))


@pytest.fixture(scope="session")
def page(whole_run: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("report") / "report"
    for _ in build(whole_run, out):
        pass
    return (out / "index.html").read_text(encoding="utf-8")


@pytest.fixture
def built() -> Callable[[Path, Path], str]:
    def run(root: Path, out: Path) -> str:
        for _ in build(root, out):
            pass
        return (out / "index.html").read_text(encoding="utf-8")

    return run


@pytest.fixture(scope="session")
def rich_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with something of everything that the report can show. Copy it before you change it."""
    root = tmp_path_factory.mktemp("rich")
    write_rich(root)
    return root


@pytest.fixture(scope="session")
def rich_report(rich_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of its report."""
    out = tmp_path_factory.mktemp("report") / "report"
    for _ in build(rich_run, out):
        pass
    return out
