"""The whole preset again: other folders, homes, languages, time zones, umasks, hash seeds; fewer instructions."""

import re
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from torture.bench import Bench, Fault, Try
from torture.project import Project

AVX512 = ("AVX512F", "AVX512VL", "AVX512BW", "AVX512DQ", "AVX512CD")
HIDDEN = {
    "UMASK": "022",
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=" + ",".join(f"-{name}" for name in AVX512),
    "NPY_DISABLE_CPU_FEATURES": "AVX512_SPR AVX512_ICL AVX512_CNL AVX512_CLX AVX512_SKX AVX512CD AVX512F",
    "OPENBLAS_CORETYPE": "Haswell", "ARROW_USER_SIMD_LEVEL": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "DNNL_MAX_CPU_ISA": "AVX2",
}  # fmt: skip
ASCII = {
    "UMASK": "077", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "TZ": "Asia/Kathmandu",
    "PYTHONHASHSEED": "17",
}  # fmt: skip
FOREIGN = {"UMASK": "002", "TZ": "America/St_Johns", "PYTHONHASHSEED": "4294967295", "COLUMNS": "40"}
"""Environment variables, and the umask, of each rebuild."""


def tries() -> Iterator[Try]:
    yield "smoke rebuilt with AVX-512 hidden from every library", _without_avx512
    yield "smoke rebuilt elsewhere, in the locale C, at another time", partial(_rebuilt, "other one", ASCII)
    utf8 = utf8_locale()
    yield (
        f"smoke rebuilt elsewhere, in the locale {utf8}, at another time",
        partial(_rebuilt, "größer & weiter", FOREIGN | {"LC_ALL": utf8, "LANG": utf8}),
    )
    if utf8.startswith("C."):
        yield "smoke rebuilt in a locale of a country", _no_country


def utf8_locale() -> str:
    """One of this machine: Turkish where it is there, whose small I has no dot, or any, or C's."""
    listed = subprocess.run(["locale", "-a"], capture_output=True, text=True, check=True).stdout.split()
    found = [name for name in listed if re.search(r"utf-?8$", name, re.IGNORECASE)]
    return min(found or ["C.UTF-8"], key=lambda name: (not name.startswith("tr_"), name.startswith("C."), name))


def _no_country(bench: Bench, fault: Fault) -> None:
    fault.left_out = "`locale -a` has none"


def _without_avx512(bench: Bench, fault: Fault) -> None:
    if "avx512f" not in Path("/proc/cpuinfo").read_text():
        fault.left_out = "this CPU has no AVX-512 that could be hidden"
        return
    _rebuilt("without AVX-512", HIDDEN, bench, fault)


def _rebuilt(place: str, environment: dict[str, str], bench: Bench, fault: Fault) -> None:
    """In the folder `place`."""
    folder = bench.reference.folder.parent
    project = Project.new(folder / place / "project", folder / place / "home")
    command = f"umask {environment['UMASK']} && exec python -m dvc repro"
    code, said = project.run("sh", "-c", command, ok=False, **environment)
    fault.add(code == 0, bench.differing(project), said[-1000:])
