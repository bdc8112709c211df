"""The rater's page: one HTML file, style, script and trials inside, so that it works from a file as from a host."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

ASSETS = Path(__file__).parent / "assets"
SECONDS_TO_ANSWER = 2.0  # what a trial takes beside its exposure: the pause before it and the answer


def render(study: Mapping[str, Any]) -> str:
    """The page for `study`: its identity, question, seconds, width and height of the pictures, practice and trials.

    Each pair is {trial, left, right} and, in super-resolution, middle: paths relative to the page.
    """
    environment = Environment(
        loader=FileSystemLoader(ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pairs = len(study["trials"])
    return environment.get_template("index.html.j2").render(
        study=study,
        seconds=f"{study['seconds']:g}",
        pairs=pairs,
        minutes=math.ceil(pairs * (study["seconds"] + SECONDS_TO_ANSWER) / 60),
        three="middle" in study["trials"][0],
        style=Markup((ASSETS / "page.css").read_text(encoding="utf-8")),
        script=Markup((ASSETS / "page.js").read_text(encoding="utf-8")),
    )
