"""The rater's page: one HTML file, style, script and pairs inside, so that it works from a file as from a host."""

import json
import math
import re
from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

ASSETS = Path(__file__).parent / "assets"
SCRIPTS = ("state.js", "pictures.js", "sending.js", "page.js")
SECONDS_TO_ANSWER = 2.0  # what a trial takes beside its exposure: the pause before it and the answer
MIDDLES = {
    "super_resolution": {
        "label": "Low-resolution image",
        "explained": "Between the two stands the low-resolution image that they were made from.",
    },
    "inpainting": {
        "label": "Picture with a hole",
        "explained": "Between the two stands the picture with the hole that they fill.",
    },
}
"""What stands between the two pictures, by task; where nothing does, the task is not here."""
BY_FILE = '<meta name="hand-in" content="file">'
BY_SERVER = '<meta name="hand-in" content="server">'
STUDY = re.compile(r'<script type="application/json" id="study">(.*?)</script>', re.DOTALL)


def render(study: Mapping[str, Any]) -> str:
    """The page for `study`: its identity, task, question, consent, seconds, width and height, practice, lists, stride.

    A rater answers one list of pairs, begun at a multiple of the stride. Each pair is {trial, left, right} and, where
    the task has one, middle: paths relative to the page. The page hands its answers over as a file.
    """
    return _page(study, "file", script=_script(*SCRIPTS))


def task(study: Mapping[str, Any], base: str) -> str:
    """The same page as the layout of a task of Mechanical Turk: a form, which hands the answers over to the platform.

    The platform puts what each row has in its column `told` into it. `base` is where the pictures' paths begin.
    """
    script = b64encode(_script(*SCRIPTS, "task.js").encode()).decode()
    html = _page(study, "task", base=base, source=f"data:text/javascript;base64,{script}")
    # ${...} would be taken for a column, in the words of a study as in the script, which is encoded for this.
    return STUDY.sub(lambda found: found[0].replace(found[1], "${told}"), html.replace("${", "＄{"), count=1)


def _page(study: Mapping[str, Any], hand_in: str, **values: str) -> str:
    pairs = len(study["lists"][0])
    return _template("index.html.j2").render(
        study=study,
        hand_in=hand_in,
        seconds=f"{study['seconds']:g}",
        pairs=pairs,
        minutes=math.ceil(pairs * (study["seconds"] + SECONDS_TO_ANSWER) / 60),
        middle=MIDDLES.get(study["task"]),
        style=Markup((ASSETS / "page.css").read_text(encoding="utf-8")),
        **values,
    )


def _script(*names: str) -> Markup:
    return Markup("\n".join((ASSETS / name).read_text(encoding="utf-8") for name in names))


def owners() -> str:
    """The owner's page: it holds no figures, and asks the server for them with the token."""
    return _template("owner.html.j2").render()


def for_server(html: str) -> str:
    """The same page, handing each answer over to the server that it came from."""
    assert BY_FILE in html
    return html.replace(BY_FILE, BY_SERVER, 1)


def told(path: Path) -> dict[str, Any]:
    """What `render` was given, read back from the page at `path`."""
    try:
        found = STUDY.search(path.read_text(encoding="utf-8"))
        if found and BY_FILE in found.string and "stride" in (study := json.loads(found[1])):
            return study
    except (OSError, ValueError):
        pass
    raise ValueError(f"{path}: not a page of a study, or of an older one; export it (dvc repro export_study@NAME)")


def content_security_policy(html: str) -> str:
    """What the page may do in a browser: run its own style and script, show pictures and ask its own server."""
    allowed = {"style": "", "script": ""}
    for kind, content in re.findall(r'<(style|script)(?: type="module")?>(.*?)</', html, re.DOTALL):
        allowed[kind] += f" 'sha256-{b64encode(sha256(content.encode()).digest()).decode()}'"
    return (
        f"default-src 'none'; style-src{allowed['style']}; script-src{allowed['script']}; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _template(name: str) -> Any:
    environment = Environment(
        loader=FileSystemLoader(ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)
