"""What docs/sampling.md tells people to write is valid."""

import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from ldm.config import check
from ldm.sampling.config import Samples

PAGE = (Path(__file__).resolve().parents[2] / "docs/sampling.md").read_text()
SNIPPETS = [YAML(typ="safe").load(text) for text in re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)]
ROW = SNIPPETS[0]["samples"]["text-f4"]


@pytest.mark.parametrize("keys", [{}, *SNIPPETS[1:]], ids=lambda keys: "-".join(keys) or "the whole row")
def test_every_snippet_fits_into_a_row_of_samples(keys):
    check(ROW | keys, Samples, "samples.x")
