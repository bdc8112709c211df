"""What all tests share: shapes in signatures are checked, slow tests come last, real data is found or skipped."""

from pathlib import Path

import pytest
import torch
from jaxtyping import install_import_hook

ROOT = Path(__file__).resolve().parents[1]

MATHEMATICS = ("nn", "data", "autoencoder", "unet", "conditioning", "diffusion", "sampling", "evaluation")
install_import_hook([f"ldm.{room}" for room in MATHEMATICS], "beartype.beartype")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Rooms first, the whole pipeline last: what is quick to say that it is broken says so first."""
    items.sort(key=lambda item: "flows" in item.path.relative_to(ROOT).parts)


@pytest.fixture(autouse=True)
def torch_as_it_comes():
    """What `ldm.training.exact.setup` changes in a process ends with the test that called it."""
    yield
    torch.set_flush_denormal(False)
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real photographs and weights beside the checkout, where there are any."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no data at {folder}")
    return folder
