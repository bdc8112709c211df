"""What the benchmarks share: a command line, a clock, the machine's name, a table, and JSON beside it.

A benchmark is one question. It measures all sides of it in one process, one after the other in every round, so that
whatever slows the machine down slows them alike. It prints a table and writes what it measured.
"""

import argparse
import os
import platform
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

import torch

from ldm.files import write_json

RESULTS = Path("benchmarks/results")


def arguments(doc: str | None, argv: Sequence[str] | None = None, **more: Any) -> argparse.Namespace:
    """--device, --out, and an option for each of `more`: its value is the default, and says the type.

    A tuple lists choices, the first is the default; False makes a switch. `doc` explains them.

    >>> arguments(__doc__, batch=48, kind=("kl-f8", "vq-f4"), compiled=False)
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    script = Path(sys.argv[0]).stem
    there = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", choices=("cpu", "cuda"), default=there, help=f"default here: {there}")
    parser.add_argument("--out", type=Path, default=RESULTS / f"{script}.json", help="JSON to write (%(default)s)")
    for name, value in more.items():
        option = f"--{name.replace('_', '-')}"
        if value is False:
            parser.add_argument(option, action="store_true")
        elif isinstance(value, tuple):
            parser.add_argument(option, choices=value, default=value[0], help="default: %(default)s")
        else:
            parser.add_argument(option, type=type(value), default=value, help="default: %(default)s")
    return parser.parse_args(argv)


def seconds(step: Callable[[], Any], *, device: str, warmup: int = 3, repeats: int = 10) -> list[float]:
    """What each of `repeats` calls takes after `warmup` calls, each begun and ended with an empty device queue."""
    return side_by_side({"": step}, device=device, warmup=warmup, repeats=repeats)[""]


def side_by_side(
    steps: Mapping[str, Callable[[], Any]], *, device: str, warmup: int = 3, repeats: int = 10
) -> dict[str, list[float]]:
    """`seconds` of several steps, in turn: all of them once, then all of them again."""
    timed = _timed_on_cuda if device == "cuda" else _timed
    for step in steps.values():
        for _ in range(warmup):
            timed(step)
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repeats):
        for name, step in steps.items():
            taken[name].append(timed(step))
    return taken


def _timed(step: Callable[[], Any]) -> float:
    started = time.perf_counter()
    step()
    return time.perf_counter() - started


def _timed_on_cuda(step: Callable[[], Any]) -> float:
    started, ended = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    started.record()
    step()
    ended.record()
    torch.cuda.synchronize()
    return started.elapsed_time(ended) / 1000


def machine(device: str) -> dict[str, Any]:
    """Where and when this is measured; `cores` are those that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpu": _cpu(),
        "cores": cores,
        "gpu": torch.cuda.get_device_name() if device == "cuda" else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "diffusers": _version("diffusers"),
        "date": time.strftime("%Y-%m-%d"),
    }


def result(options: argparse.Namespace, taken: Mapping[str, Sequence[float]], **more: Any) -> dict[str, Any]:
    """What a script writes: machine, settings, all repeats in seconds, their medians, and `more` (the ratios)."""
    settings = {name: value for name, value in vars(options).items() if name != "out"}
    medians = {name: median(repeats) for name, repeats in taken.items()}
    return {"machine": machine(options.device), "settings": settings, "seconds": taken, "median": medians, **more}


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print plain text: the first column to the left, the others to the right, numbers with four digits."""
    lines = [
        list(columns),
        *([f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows),
    ]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    print(f"\n{title}")
    for first, *others in lines:
        cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))]
        print("  " + "  ".join(cells).rstrip())


def write(path: Path, measured: Mapping[str, Any]) -> None:
    write_json(path, measured)
    print(f"\nwritten to {path}", flush=True)


def _cpu() -> str:
    listing = Path("/proc/cpuinfo")
    names = re.findall(r"^model name\s*: (.*)$", listing.read_text(), re.MULTILINE) if listing.is_file() else []
    return names[0] if names else platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
