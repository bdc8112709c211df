"""No file that the project reads can make it run code: what would let one is nowhere called."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted(path for room in ("ldm", "flows", "benchmarks") for path in (ROOT / room).rglob("*.py"))

MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "yaml", "code"}
"""Each reads files that run code, or is a way to it. (ruamel.yaml, safe, reads params.yaml.)"""
CALLS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "pandas.read_pickle", "pd.read_pickle",
         "torch.hub.load", "torch.jit.load", "torch.package.PackageImporter"}  # fmt: skip
UNPACKING = {"extractall", "unpack_archive"}
"""These write where an archive says."""
ALLOWED = {
    "torch.load": ("weights_only", {True}, ...),
    "np.load": ("allow_pickle", {False}, False),
    "numpy.load": ("allow_pickle", {False}, False),
    "YAML": ("typ", {"safe", "rt"}, "rt"),
}
"""What may be called with some values of an argument only; last its default, `...` where it must be given."""
NEVER = {"shell": True, "trust_remote_code": True, "allow_pickle": True, "weights_only": False}


def faults(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            yield from (f"{node.lineno}: import {name}" for name in names if name.partition(".")[0] in MODULES)
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            given = {keyword.arg: getattr(keyword.value, "value", None) for keyword in node.keywords}
            if called in CALLS or called.rpartition(".")[2] in UNPACKING:
                yield f"{node.lineno}: {called}"
            if called in ALLOWED:
                key, values, otherwise = ALLOWED[called]
                if given.get(key, otherwise) not in values:
                    yield f"{node.lineno}: {called} without {key} of {values}"
            yield from (f"{node.lineno}: {key}={value}" for key, value in NEVER.items() if given.get(key) is value)


def test_nothing_that_a_file_says_is_executed():
    found = [f"{path.relative_to(ROOT)}:{fault}" for path in SOURCES for fault in faults(path.read_text())]
    assert not found
    assert len(SOURCES) > 100


@pytest.mark.parametrize(
    "line",
    ["import pickle", "from pickle import loads", "import yaml", "torch.load(path)",
     "torch.load(p, weights_only=False)",
     "np.load(p, allow_pickle=True)", "YAML(typ='unsafe')", "eval(text)", "subprocess.run(line, shell=True)",
     "tar.extractall(folder)", "Model.from_pretrained(p, trust_remote_code=True)", "torch.load(p, weights_only=safe)"],
)  # fmt: skip
def test_what_would_be_found(line):
    assert list(faults(line))


def test_what_is_let_pass():
    assert not list(faults("torch.load(p, weights_only=True); model.eval(); np.load(p); YAML(typ='safe')"))
