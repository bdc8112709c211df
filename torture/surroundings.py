"""The whole preset again: other folders, homes, languages, time zones, umasks, hash seeds; fewer instructions."""

from collections.abc import Iterator

from flows.compare import compare
from ldm.config import load
from torture.bench import Bench, Fault
from torture.project import Project

AVX512 = ("AVX512F", "AVX512VL", "AVX512BW", "AVX512DQ", "AVX512CD")
OTHERS: dict[str, dict[str, str]] = {
    "with AVX-512 hidden from every library": {
        "UMASK": "022",
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=" + ",".join(f"-{name}" for name in AVX512),
        "NPY_DISABLE_CPU_FEATURES": "AVX512_SPR AVX512_ICL AVX512_CNL AVX512_CLX AVX512_SKX AVX512CD AVX512F",
        "OPENBLAS_CORETYPE": "Haswell", "ARROW_USER_SIMD_LEVEL": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "DNNL_MAX_CPU_ISA": "AVX2",
    },
    "in another folder, home, locale, time zone, umask, hash seed": {
        "UMASK": "077", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "TZ": "Asia/Kathmandu",
        "PYTHONHASHSEED": "17",
    },
    "in yet other ones": {
        "UMASK": "002", "LC_ALL": "tr_TR.UTF-8", "LANG": "tr_TR.UTF-8", "TZ": "America/St_Johns",
        "PYTHONHASHSEED": "4294967295", "COLUMNS": "40",
    },
}  # fmt: skip
"""Environment variables, and the umask, of each rebuild."""


def faults(bench: Bench) -> Iterator[Fault]:
    for number, (words, environment) in enumerate(OTHERS.items()):
        fault = Fault(name=f"smoke rebuilt {words}")
        folder = (
            "größer & weiter" if "UTF-8" in environment.get("LC_ALL", "") else "other one"
        )  # DVC needs UTF-8 for it
        project = Project.new(bench.folder / f"{folder} {number}" / "project", bench.folder / f"home {number}")
        command = f"umask {environment['UMASK']} && exec python -m dvc repro"
        code, said = project.run("sh", "-c", command, ok=False, **environment)
        fault.add(code == 0, differing_outputs(bench, project), said[-1000:])
        yield fault


def differing_outputs(bench: Bench, project: Project) -> list[str]:
    """Paths whose hash in dvc.lock is not the undisturbed one; dvc.lock itself where only other lines differ."""
    if not (project.folder / "dvc.lock").exists():
        return ["dvc.lock"]
    before, after = load(bench.reference.folder / "dvc.lock")["stages"], load(project.folder / "dvc.lock")["stages"]
    differing = [output.path for output in compare(before, after) if output.verdict != "same"]
    gone = sorted(set(before) - set(after))
    return differing + gone or ([] if project.lock == bench.reference.lock else ["dvc.lock"])
