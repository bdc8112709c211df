"""An exported study for other platforms: Label Studio, tables of tasks as Mechanical Turk reads them, jsPsych.

Each format reads the public folder only, so what it writes tells as little as the page, and gives each rater a sheet.
"""

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit
from xml.etree import ElementTree

from ldm.files import fresh_folder, write_bytes, write_json
from ldm.study.page import task, told
from ldm.study.trials import sheet

ASSETS = Path(__file__).parent / "assets"
SLOTS = ("left", "middle", "right")
Told = Mapping[str, Any]
"""What the page is told, and `url`, where it can be seen."""
MOST_BYTES = 65_535  # of a task: the API's HTMLQuestion


def convert(study: Path, to: str, url: str, out: Path, raters: int) -> list[Path]:
    """Write the study in the folder `study` (studies/NAME, or its public folder) for the platform `to` into `out`.

    `url` is where the public folder can be seen on the web. Tasks and links are of sheets 0 to `raters` - 1, one a
    rater (`ldm.study.trials.sheet`). Returns the files, ValueError of one line where the folder holds no study, `url`
    is no address or a task is too long for its platform.
    """
    if to not in FORMATS:
        raise ValueError(f"--to {to}: one of {', '.join(FORMATS)}")
    public = study / "public" if (study / "public").is_dir() else study
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out}: not an empty folder; name another, so that nothing is overwritten")
    page = told(public / "index.html") | {"url": _base(url)}
    fresh_folder(out)
    FORMATS[to](page, raters, out)
    words = (ASSETS / f"{to}.txt").read_text(encoding="utf-8")
    write_bytes(out / "README.txt", words.format(seconds=f"{page['seconds']:g}", raters=raters).encode())
    return sorted(path for path in out.iterdir() if path.is_file())


def _base(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment:
        raise ValueError(f"--url {url}: the address of the public folder, such as https://example.org/study")
    return url.rstrip("/") + "/"


def _absolute(page: Told, pair: Mapping[str, str]) -> dict[str, str]:
    return {"trial": pair["trial"]} | {slot: urljoin(page["url"], pair[slot]) for slot in SLOTS if slot in pair}


def _label_studio(page: Told, raters: int, out: Path) -> None:
    """Tasks of each rater (a project each) and the labeling interface of all."""
    for number in range(raters):
        tasks = [
            {"data": {"study": page["study"], "sheet": number, "position": position, **_absolute(page, pair)}}
            for position, pair in enumerate(sheet(page["lists"], number))
        ]
        write_json(out / f"tasks-{number:03d}.json", tasks)
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Header", value=page["question"].replace("$", "＄"))  # a $ would name a field
    ElementTree.SubElement(view, "Pairwise", name="choice", toName="left,right")
    row = ElementTree.SubElement(view, "View", style="display: flex; gap: 1em")
    for slot in (slot for slot in SLOTS if slot in page["lists"][0][0]):
        column = ElementTree.SubElement(row, "View", style="flex: 1")
        ElementTree.SubElement(column, "Image", name=slot, value=f"${slot}")
    ElementTree.indent(view)
    write_bytes(out / "labeling.xml", ElementTree.tostring(view, encoding="utf-8") + b"\n")


def _csv(page: Told, raters: int, out: Path) -> None:
    """A task for each rater as a row, the layout of all, which is the page, and a link to the page for each rater."""
    layout = task(page, page["url"])
    rows = []
    for number in range(raters):
        own = {key: page[key] for key in ("study", "seconds", "width", "height", "practice")}
        own |= {"lists": [sheet(page["lists"], number)], "stride": 0}  # one list, begun at its first pair
        row = {"study": page["study"], "sheet": number, "told": json.dumps(own, separators=(",", ":"))}
        if (size := len(layout.encode()) + len(row["told"])) > MOST_BYTES:
            raise ValueError(
                f"--to csv: a task of {size:,} bytes, of which Mechanical Turk takes {MOST_BYTES:,}; lower trials, or "
                "send raters to the page itself (index.html?sheet=0, 1, ...)"
            )
        rows.append(row)
    write_bytes(out / "task.html", layout.encode())
    write_bytes(out / "batch.csv", table(rows))
    links = [{"sheet": number, "url": f"{page['url']}index.html?sheet={number}"} for number in range(raters)]
    write_bytes(out / "links.csv", table(links))


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


def _jspsych(page: Told, raters: int, out: Path) -> None:
    """The timeline of each list in jsPsych's own terms, and the page that runs a sheet with a local jsPsych 8."""

    def steps(pairs: Sequence[Mapping[str, str]], kind: str) -> list[dict[str, Any]]:
        return [step for pair in pairs for step in _steps(page, _absolute(page, pair), kind)]

    timeline = {
        **{key: page[key] for key in ("study", "consent", "hand_in", "stride")},
        "practice": steps(page["practice"], "practice"),
        "lists": [steps(pairs, "trial") for pairs in page["lists"]],
    }
    write_json(out / "timeline.json", timeline)
    layout = (ASSETS / "jspsych.html").read_text(encoding="utf-8")
    inside = json.dumps(timeline, ensure_ascii=False, sort_keys=True).replace("<", "\\u003c")
    write_bytes(out / "index.html", layout.replace("TIMELINE", inside).encode())
    links = [{"sheet": number, "url": f"index.html?sheet={number}"} for number in range(raters)]
    write_bytes(out / "links.csv", table(links))


def _steps(page: Told, pair: Mapping[str, str], kind: str) -> list[dict[str, Any]]:
    """Look for the study's time, then choose."""
    question = f"<p>{escape(page['question'])}</p>"
    images = "".join(
        f'<img src="{escape(pair[slot])}" alt="{slot}" width="{page["width"]}" height="{page["height"]}">'
        for slot in SLOTS
        if slot in pair
    )
    said = {"kind": kind, "trial": pair["trial"]}
    look = {
        "type": "html-keyboard-response",
        "stimulus": f'{question}<div class="pair">{images}</div>',
        "choices": "NO_KEYS",
        "trial_duration": round(1000 * page["seconds"]),
        "data": {**said, "part": "look"},
    }
    choose = {
        "type": "html-keyboard-response",
        "stimulus": question,
        "choices": ["ArrowLeft", "ArrowRight"],
        "data": {**said, "part": "choose"},
    }
    return [look, choose]


FORMATS: dict[str, Callable[[Told, int, Path], None]] = {
    "label-studio": _label_studio,
    "csv": _csv,
    "jspsych": _jspsych,
}
