"""dvc.yaml says what each stage is made from: held against what its flow imports, reads and writes."""

import ast
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import grimp
import pytest

from ldm.config import load

ROOT = Path(__file__).resolve().parents[2]
STAGES: dict[str, Any] = load(ROOT / "dvc.yaml")["stages"]
NAMED = {stage: entry["do"] for stage, entry in STAGES.items() if "foreach" in entry}

SHOWS = {
    "flows.stage": "iterates the records of a stage and words its errors",
    "flows.console": "writes a line of progress on stderr",
    "flows.cluster": "has others draw batches first, each with the bytes that the stage would give it",
    "flows.several": "starts a stage's processes and passes on their records",
    "flows.show": "draws the run in Prefect's UI",
    "flows.memory": "says which batch would fit where one did not",
    "flows.server": "starts a Prefect server",
    "flows.record": "notes durations and the environment, outside every hash",
}
"""What every flow imports and no output depends on."""

PINS = "constraints-numeric.txt"
WRITES = {"out", "public", "key"}
"""Arguments of a stage's function that name what it writes; its other paths are what it reads."""
SORTS = ("tokens", "channels")
CONDITIONER = {"ldm/conditioning/__init__.py", "ldm/conditioning/part.py"} | {
    f"ldm/conditioning/{sort}/{which}"
    for sort in SORTS
    for which in ("__init__.py", f"${{item.condition.{sort}.kind}}")
}
"""What training depends on in the place of the whole room: a model names its own kinds of condition."""


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("flows", "ldm", cache_dir=None)


def code(graph: grimp.ImportGraph, stage: str) -> set[str]:
    """The code that the flow `stage` runs: modules of flows, modules of floor 0, whole rooms of ldm."""
    graph = deepcopy(graph)
    for module in SHOWS:
        graph.remove_module(module)
    reached = {f"flows.{stage}"} | graph.find_upstream_modules(f"flows.{stage}")
    found = {place(module) for name in reached for module in (name, name.partition(".")[0])}
    if stage == "train_diffusion":
        found = found - {"ldm/conditioning"} | CONDITIONER
    return found | {PINS}


def place(module: str) -> str:
    """Where dvc.yaml names a module; the parent packages' `__init__.py`, which Python runs too, are files of their own.

    >>> place("ldm.unet.model"), place("ldm.config"), place("ldm")
    ('ldm/unet', 'ldm/config.py', 'ldm/__init__.py')
    """
    parts = module.split(".")[:2]
    path = Path(*parts)
    if not (ROOT / path).is_dir():
        return f"{path}.py"
    return str(path if len(parts) == 2 else path / "__init__.py")


def is_code(dependency: str) -> bool:
    return dependency == PINS or dependency.startswith(("flows/", "ldm/"))


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_exactly_the_code_that_its_flow_imports(graph, stage):
    declared = [dep for dep in STAGES[stage].get("do", STAGES[stage])["deps"] if is_code(dep)]
    assert set(declared) == code(graph, stage)
    assert len(set(declared)) == len(declared)


def test_an_import_of_another_room_is_noticed(graph):
    changed = deepcopy(graph)
    changed.add_import(importer="ldm.autoencoder.loss", imported="ldm.study.page")
    assert code(changed, "train_autoencoder") == code(graph, "train_autoencoder") | {"ldm/study"}
    assert code(changed, "prepare") == code(graph, "prepare")


def test_what_only_shows_a_stage_computes_nothing(graph):
    for module in SHOWS:
        rooms = {name for name in graph.find_modules_directly_imported_by(module) if name.startswith("ldm")}
        assert rooms <= {"ldm.config", "ldm.files", "ldm.progress"}, f"{module}: no longer left out so simply"


def test_a_model_loads_the_code_of_its_own_condition_only(graph):
    """So that a change to one kind of condition leaves the models of the others as they are."""
    room = ast.parse((ROOT / "ldm/conditioning/__init__.py").read_text())
    chosen = {
        (case.pattern.value.value, f"{node.module}.{node.names[0].name}")
        for case in ast.walk(room) if isinstance(case, ast.match_case) and isinstance(case.pattern, ast.MatchValue)
        for node in ast.walk(case) if isinstance(node, ast.ImportFrom)
    }  # fmt: skip
    kinds = {
        (folder.parent.name, f"ldm.conditioning.{sort}.{folder.parent.name}")
        for sort in SORTS for folder in (ROOT / "ldm/conditioning" / sort).glob("*/__init__.py")
    }  # fmt: skip
    assert chosen == kinds
    loaded_always = {node.module for node in room.body if isinstance(node, ast.ImportFrom)}
    assert {module for module in loaded_always if module.startswith("ldm.conditioning")} == {"ldm.conditioning.part"}
    modules = {module for _, module in kinds}
    for module in modules:
        assert not graph.find_modules_directly_imported_by(module) & (modules - {module})
    others = graph.find_modules_that_directly_import
    assert {importer for module in modules for importer in others(module)} == {"ldm.conditioning"}


def calls(stage: str) -> Iterator[ast.Call]:
    tree = ast.parse((ROOT / "flows" / f"{stage}.py").read_text())
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def called(call: ast.Call, name: str) -> bool:
    return isinstance(call.func, ast.Name) and call.func.id == name


def spelled(node: ast.AST) -> str:
    """An expression of a flow as dvc.yaml spells it, such as `${item.dataset}` for `config.dataset`."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.Name(id="name"):
            return "${key}"
        case ast.Attribute(value=ast.Name(id="config") | ast.Attribute(attr="root"), attr=key):
            return f"${{item.{key}}}"
        case ast.FormattedValue(value=value):
            return spelled(value)
        case ast.JoinedStr(values=parts):
            return "".join(map(spelled, parts))
        case ast.Call(args=parts):
            return "/".join(map(spelled, parts))
    raise AssertionError(f"{ast.unparse(node)}: write it simply, so that this test can read it")


def paths(stage: str) -> Iterator[tuple[str, str]]:
    """Each path that the flow hands to the function of its stage: the argument, and the path as dvc.yaml spells it."""
    for call in calls(stage):
        for argument in call.keywords:
            if isinstance(argument.value, ast.Call) and called(argument.value, "Path"):
                yield str(argument.arg), spelled(argument.value)


def outs(entry: dict[str, Any]) -> list[str]:
    listed = [*entry.get("outs", []), *entry.get("metrics", [])]
    return [path for out in listed for path in (out if isinstance(out, dict) else [out])]


@pytest.mark.parametrize("stage", NAMED)
def test_a_stage_declares_exactly_the_data_that_its_flow_reads(stage):
    data = [dep for dep in NAMED[stage]["deps"] if not is_code(dep)]
    assert sorted(data) == sorted(path for argument, path in paths(stage) if argument not in WRITES)


@pytest.mark.parametrize("stage", NAMED)
def test_a_stage_declares_exactly_what_its_flow_writes(stage):
    assert sorted(outs(NAMED[stage])) == sorted(path for argument, path in paths(stage) if argument in WRITES)


@pytest.mark.parametrize("stage", NAMED)
def test_a_stage_declares_exactly_the_params_that_its_flow_reads(stage):
    read = [spelled(call.args[2]) for call in calls(stage) if called(call, "section")]
    assert sorted(NAMED[stage]["params"]) == sorted(read)
    assert sum(called(call, "load") for call in calls(stage)) == 1, "what is not read as a section is not declared"


@pytest.mark.parametrize("stage", NAMED)
def test_a_stage_goes_by_one_name_everywhere(stage):
    [main] = [call for call in calls(stage) if called(call, "main")]
    assert f"${{{spelled(main.keywords[0].value)}}}" == STAGES[stage]["foreach"]
    assert NAMED[stage]["cmd"] == f"python -m flows.{stage} ${{key}}"
    assert {spelled(call.args[0]) for call in calls(stage) if called(call, "resume_folder")} <= {stage}


def test_the_report_depends_on_all_that_the_other_stages_make_and_on_the_text_of_params():
    made = {Path(out.partition("${key}")[0]).as_posix() for entry in NAMED.values() for out in outs(entry)}
    roots = {path for path in made if not any(path.startswith(f"{other}/") for other in made)}
    tables = {STAGES[stage]["foreach"].removeprefix("${").rstrip("}").partition(".")[0] for stage in NAMED}
    report = STAGES["report"]
    assert {dep for dep in report["deps"] if not is_code(dep)} == roots | {
        "benchmarks/results/rates.json",
        "params.yaml",
    }
    assert set(report["params"]) == tables | {"run"} == set(load(ROOT / "params.yaml"))
    assert report["cmd"] == "python -m flows.report"
    assert outs(report) == ["report"]


def test_only_the_flows_the_report_and_what_is_no_stage_read_params_by_themselves():
    """The rest of `ldm` is handed its sections, so that the params a flow reads are those of its stage.

    The command line is no stage: it reads the file that its user names, and import looks which names are rows.
    """
    readers = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "ldm").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module == "ldm.config"
        for name in node.names
        if name.name == "load"
    }
    assert readers == {"ldm/report/collect.py", "ldm/cli/importing.py", "ldm/cli/study.py", "ldm/interop/folders.py"}
