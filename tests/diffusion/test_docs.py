"""What docs/training.md tells people to write is valid."""

import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.diffusion.small import row

PAGE = (Path(__file__).resolve().parents[2] / "docs/training.md").read_text()
SNIPPETS = [YAML(typ="safe").load(text) for text in re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)]


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda snippet: "-".join(snippet))
def test_every_snippet_fits_into_a_row_of_diffusion(snippet):
    row(**snippet)
