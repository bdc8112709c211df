"""What belongs to a run and not to its results: durations, memory, the environment, the revision.

`.logs/STAGE/NAME.json` and `report/run.html` are in neither git nor DVC. `environment.json` is in git, beside dvc.lock:
it says where the bytes in dvc.lock were made, so that `flows.verify` can say what differs before it says that bytes do.
"""

import html
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from flows.console import duration
from flows.inputs import numeric_versions
from ldm.config import load, lookup
from ldm.files import read_json, write_bytes, write_json

LOGS = Path(".logs")
ENVIRONMENT = Path("environment.json")
LOCK = Path("dvc.lock")
OUTSIDE = ("data/raw/", "data/weights/")
NONE = "none"
"""The empty folder that a row without any names."""


def record(stage: str, name: str, seconds: float, units: int, unit: str) -> None:
    """Note what a stage that ended well took, and where it ran."""
    largest = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    kilobytes = largest // (1024 if sys.platform == "darwin" else 1)
    values = {
        "stage": stage,
        "name": name,
        "ended": time.strftime("%Y-%m-%d %H:%M:%S %Z"),
        "seconds": round(seconds, 2),
        "units": units,
        "unit": unit,
        "peak_megabytes": kilobytes // 1024,
    }
    write_json(LOGS / stage / f"{name}.json", values)
    here = environment()
    if not ENVIRONMENT.is_file() or read_json(ENVIRONMENT) != here:
        write_json(ENVIRONMENT, here)


def environment() -> dict[str, Any]:
    """What, beyond code, parameters and data, the bytes of an output may depend on."""
    return {
        "cpu": _cpu(),
        "gpu": _gpu(),
        "machine": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **numeric_versions(),
    }


def device(stage: str) -> str:
    """What `stage` computes on: `run.device` of params.yaml where dvc.yaml says that it reads it, else `cpu`."""
    entry = load("dvc.yaml")["stages"].get(stage, {})
    reads_run = "run" in entry.get("do", entry).get("params", [])
    return str(load()["run"]["device"]) if reads_run else "cpu"


def processor(device: str | None) -> str:
    """The name of the CPU, or of the GPU once the stage has begun to use it."""
    torch = sys.modules.get("torch")
    if device != "cuda":
        return _cpu()
    return torch.cuda.get_device_name() if torch and torch.cuda.is_initialized() else "not yet in use"


def write_run_page(path: Path) -> None:
    """A page with the revision, the environment and what each stage's last run took."""
    logs = [read_json(log) for log in sorted(LOGS.rglob("*.json"))]
    total = sum(log["seconds"] for log in logs)
    facts = {"revision": _revision(), **environment()}
    rows = [
        [log["stage"], log["name"], duration(log["seconds"]), _rate(log), f"{log['peak_megabytes']} MB", log["ended"]]
        for log in sorted(logs, key=lambda log: log["ended"])
    ]
    body = (
        "<h1>How this report was made</h1>"
        "<p>This page is about the last runs on this machine. It is no part of what DVC tracks; "
        '<a href="index.html">the report</a> is.</p>'
        f"{_table('Revision and environment', ['', ''], [[name, str(value)] for name, value in facts.items()])}"
        f"<h2>What came in from outside</h2>{_outside()}"
        f"<h2>Stages: {duration(total)} together</h2>"
        f"{_table('Stages', ['stage', 'name', 'time', 'rate', 'peak memory', 'ended'], rows)}"
    )
    style = (
        ":root{color-scheme:light dark}"
        "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
        "div{overflow-x:auto}td,th{text-align:left;padding:.2rem 1.5rem .2rem 0;font-variant-numeric:tabular-nums}"
    )
    viewport = '<meta name="viewport" content="width=device-width, initial-scale=1">'
    head = f'<meta charset="utf-8">{viewport}<title>This run</title><style>{style}</style>'
    write_bytes(path, f'<!doctype html><html lang="en">{head}{body}</html>\n'.encode())


def _outside() -> str:
    """The hashes of raw data and weights; not in the report, whose bytes are a function of what stages made."""
    read = outside()
    if not read:
        return f"<p>{'dvc.lock is not there to tell.' if read is None else 'No raw data and no weights.'}</p>"
    return _table("MD5 of raw data and weights, as dvc.lock has it", ["folder", "MD5"], [*map(list, read.items())])


def outside() -> dict[str, str] | None:
    """The hash of the raw data and weights that the rows of params.yaml have read, by path; None without dvc.lock."""
    if not LOCK.is_file():
        return None
    params, stages = load(), load("dvc.yaml")["stages"]
    tables = {stage: entry["foreach"][2:-1] for stage, entry in stages.items() if "foreach" in entry}
    found: dict[str, str] = {}
    for entry, locked in (load(LOCK).get("stages") or {}).items():
        stage, _, name = entry.partition("@")
        if stage in tables and name in lookup(params, tables[stage]):
            read = {dep["path"]: dep["md5"] for dep in locked["deps"]}
            found |= {path: md5 for path, md5 in read.items() if path.startswith(OUTSIDE) and Path(path).name != NONE}
    return dict(sorted(found.items()))


def _table(label: str, head: list[str], rows: list[list[str]]) -> str:
    def line(tag: str, cells: list[str]) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    content = f"{line('th', head) if any(head) else ''}{''.join(line('td', row) for row in rows)}"
    return f'<div role="region" tabindex="0" aria-label="{label}"><table>{content}</table></div>'


def _rate(log: dict[str, Any]) -> str:
    return f"{log['units'] / log['seconds']:.3g} {log['unit']}/s" if log["units"] and log["seconds"] else ""


def _revision() -> str:
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "not in git"
    return described.stdout.strip()


def _cpu() -> str:
    """The model's name: an instruction set alone does not tell two vendors' kernels apart."""
    listing = Path("/proc/cpuinfo")
    if listing.is_file():
        for entry in listing.read_text().splitlines():
            if entry.startswith("model name"):
                return entry.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _gpu() -> str:
    if load().get("run", {}).get("device") != "cuda":
        return "none"
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
