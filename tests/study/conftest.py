"""Studies exported from small samples."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ldm.study.export import export
from tests.study.samples import IDS, Exported, Inputs, settings, write_originals, write_samples


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    root = tmp_path_factory.mktemp("inputs")
    return Inputs(
        write_samples(root / "careful-model", IDS, 8),
        write_samples(root / "hasty-model", IDS, 60),
        write_originals(root / "scenes", IDS),
    )


@pytest.fixture
def exported(inputs: Inputs, tmp_path: Path) -> Callable[..., Exported]:
    """Export a study with some settings changed."""

    def run(name: str = "study", **changes) -> Exported:
        out = Exported(tmp_path / name / "public", tmp_path / name / "key.json")
        records = list(export(settings(**changes), inputs.first, inputs.second, inputs.images, out.public, out.key))
        assert records[-1].done == records[-1].total
        return out

    return run
