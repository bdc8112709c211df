"""An exported study for other platforms: Label Studio, tables of tasks as Mechanical Turk reads them, jsPsych.

Each format reads the public folder only, so what it writes tells as little as the page. One list is one rater's, so
each list is a file of its own.
"""

import csv
import io
import json
from collections.abc import Callable, Mapping
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit
from xml.etree import ElementTree

from ldm.files import fresh_folder, write_bytes, write_json

ASSETS = Path(__file__).parent / "assets"
SLOTS = ("left", "middle", "right")
Told = Mapping[str, Any]
"""What the page is told."""


def convert(study: Path, to: str, url: str, out: Path) -> list[Path]:
    """Write the study in the folder `study` (studies/NAME, or its public folder) for the platform `to` into `out`.

    `url` is where the public folder can be seen on the web. Returns the files, ValueError of one line where the folder
    holds no study or `url` is no address.
    """
    if to not in FORMATS:
        raise ValueError(f"--to {to}: one of {', '.join(FORMATS)}")
    public = study / "public" if (study / "public").is_dir() else study
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out}: not an empty folder; name another, so that nothing is overwritten")
    told = _absolute(read_page(public / "index.html"), _base(url))
    fresh_folder(out)
    FORMATS[to](told, out)
    return sorted(path for path in out.iterdir() if path.is_file())


def read_page(path: Path) -> dict[str, Any]:
    """What the exported page is told, out of its script element `study`."""
    if not path.is_file():
        raise ValueError(f"{path}: not found; export the study first (dvc repro)")
    script = _Script()
    script.feed(path.read_text(encoding="utf-8"))
    if not script.text:
        raise ValueError(f"{path}: not the page of a study; name a folder that export_study wrote")
    return json.loads(script.text)


class _Script(HTMLParser):
    """Keeps the text of <script id="study">."""

    def __init__(self) -> None:
        super().__init__()
        self.text, self._inside = "", False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = tag == "script" and ("id", "study") in attrs

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.text += data

    def handle_endtag(self, tag: str) -> None:
        self._inside = False


def _base(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment:
        raise ValueError(f"--url {url}: the address of the public folder, such as https://example.org/study")
    return url.rstrip("/") + "/"


def _absolute(told: Told, base: str) -> dict[str, Any]:
    def pair(one: Mapping[str, str]) -> dict[str, str]:
        return {"trial": one["trial"]} | {slot: urljoin(base, one[slot]) for slot in SLOTS if slot in one}

    lists = [[pair(one) for one in trials] for trials in told["lists"]]
    return dict(told) | {"practice": [pair(one) for one in told["practice"]], "lists": lists, "url": base}


def _label_studio(told: Told, out: Path) -> None:
    """Tasks of each list (a project each) and the labeling interface of all."""
    for number, trials in enumerate(told["lists"]):
        tasks = [{"data": {"study": told["study"], "list": number, **pair}} for pair in trials]
        write_json(out / f"tasks-{number}.json", tasks)
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Header", value=told["question"].replace("$", "＄"))  # a $ would name a field
    ElementTree.SubElement(view, "Pairwise", name="choice", toName="left,right")
    row = ElementTree.SubElement(view, "View", style="display: flex; gap: 1em")
    for slot in (slot for slot in SLOTS if slot in told["lists"][0][0]):
        column = ElementTree.SubElement(row, "View", style="flex: 1")
        ElementTree.SubElement(column, "Image", name=slot, value=f"${slot}")
    ElementTree.indent(view)
    write_bytes(out / "labeling.xml", ElementTree.tostring(view, encoding="utf-8") + b"\n")


def _csv(told: Told, out: Path) -> None:
    """A batch of tasks for each list, their layout, and a link to the page for each list."""
    for number, trials in enumerate(told["lists"]):
        rows = [
            {"study": told["study"], "list": number, "trial": pair["trial"], "question": told["question"]}
            | {f"{slot}_url": pair[slot] for slot in SLOTS if slot in pair}
            for pair in trials
        ]
        write_bytes(out / f"batch-{number}.csv", table(rows))
    links = [{"list": n, "url": f"{told['url']}index.html?list={n}"} for n in range(len(told["lists"]))]
    write_bytes(out / "links.csv", table(links))
    pictures = "\n".join(
        f'  <img src="${{{slot}_url}}" alt="{slot}" style="max-width: 32%">'
        for slot in SLOTS
        if slot in told["lists"][0][0]
    )
    layout = (ASSETS / "task.html").read_text(encoding="utf-8")
    write_bytes(out / "task.html", layout.replace("PICTURES", pictures).encode())


def table(rows: list[dict[str, Any]]) -> bytes:
    """CSV in UTF-8, quoted where needed (RFC 4180); no field can be taken for a formula by a spreadsheet."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows({name: _harmless(value) for name, value in row.items()} for row in rows)
    return text.getvalue().encode()


def _harmless(value: Any) -> Any:
    # What spreadsheets take for a formula begins so; an apostrophe before it makes it text (OWASP, CSV injection).
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else value


def _jspsych(told: Told, out: Path) -> None:
    """The timeline of each list in jsPsych's own terms, and the page that runs one with a local jsPsych 8."""
    milliseconds = round(1000 * told["seconds"])

    def pair(one: Mapping[str, str], kind: str) -> list[dict[str, Any]]:
        said = {"kind": kind, "trial": one["trial"]}
        look = {
            "type": "html-keyboard-response",
            "stimulus": _pictures(told, one),
            "choices": "NO_KEYS",
            "trial_duration": milliseconds,
            "data": {**said, "part": "look"},
        }
        choose = {
            "type": "html-keyboard-response",
            "stimulus": f"<p>{escape(told['question'])}</p>",
            "choices": ["ArrowLeft", "ArrowRight"],
            "data": {**said, "part": "choose"},
        }
        return [look, choose]

    practice = [step for one in told["practice"] for step in pair(one, "practice")]
    lists = [[*practice, *(step for one in trials for step in pair(one, "trial"))] for trials in told["lists"]]
    timeline = {"study": told["study"], "consent": told["consent"], "hand_in": told["hand_in"], "lists": lists}
    write_json(out / "timeline.json", timeline)
    page = (ASSETS / "jspsych.html").read_text(encoding="utf-8")
    inside = json.dumps(timeline, ensure_ascii=False, sort_keys=True).replace("<", "\\u003c")
    write_bytes(out / "index.html", page.replace("TIMELINE", inside).encode())


def _pictures(told: Told, pair: Mapping[str, str]) -> str:
    images = "".join(
        f'<img src="{escape(pair[slot])}" alt="{slot}" width="{told["width"]}" height="{told["height"]}">'
        for slot in SLOTS
        if slot in pair
    )
    return f'<p>{escape(told["question"])}</p><div class="pair">{images}</div>'


FORMATS: dict[str, Callable[[Told, Path], None]] = {"label-studio": _label_studio, "csv": _csv, "jspsych": _jspsych}
