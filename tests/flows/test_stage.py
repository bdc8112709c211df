"""What the user can mend is one line and exit code 1, being stopped is 130, a bug keeps its traceback."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from flows.stage import explain, mendable, run
from ldm.config import Run, load, section
from ldm.data import pictures
from ldm.files import read_json, whole, write_manifest
from ldm.progress import Progress

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A folder with just enough in it for a stage to run and be recorded."""
    (tmp_path / "params.yaml").write_text("run: {mode: exact, device: cpu, threads: 1, instructions: avx2}\n")
    (tmp_path / "constraints-numeric.txt").write_text("numpy==2\n")
    (tmp_path / "dvc.yaml").write_text("stages: {train: {deps: [data, samples]}}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def steps(name: str) -> Iterator[Progress]:
    for done in range(3, 8):  # it found three of them done
        yield Progress(done=done, total=7)


def refuses(name: str) -> Iterator[Progress]:
    yield Progress(done=1, total=2)
    section({"run": {"mode": "exact"}}, Run, "run")


def test_a_stage_that_ends_well_is_recorded(project):
    assert run(steps, "train", "a", plain=True) == 0
    record = read_json(project / ".logs/train/a.json")
    assert (record["stage"], record["name"], record["units"], record["unit"]) == ("train", "a", 4, "steps")
    assert record["seconds"] >= 0
    assert record["peak_megabytes"] > 10
    environment = read_json(project / "environment.json")
    assert {"cpu", "gpu", "machine", "python", "numpy"} == set(environment)


def reads_table(name: str) -> Iterator[Progress]:
    yield Progress(done=1, total=2)
    pq.ParquetFile("samples/a/file")


def reads_picture(name: str) -> Iterator[Progress]:
    yield Progress(done=1, total=2)
    pictures.read(Path("samples/a/file").read_bytes())


@pytest.mark.parametrize("stage", [reads_table, reads_picture])
def test_whoever_stumbles_over_a_damaged_input_the_line_names_it(project, capsys, stage):
    folder = project / "samples/a"
    folder.mkdir(parents=True)
    (folder / "file").write_bytes(b"whole")
    write_manifest(folder)
    (folder / "file").write_bytes(b"")
    assert run(stage, "train", "a", plain=True) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("train a: samples/a/file: damaged, its hash is not that in manifest.json; ")


def test_a_library_that_stumbles_over_what_is_whole_is_a_bug(project):
    folder = project / "samples/a"
    folder.mkdir(parents=True)
    (folder / "file").write_bytes(b"whole")
    write_manifest(folder)
    with pytest.raises(pa.ArrowInvalid):
        run(reads_table, "train", "a", plain=True)


def test_the_environment_is_written_only_where_it_differs(project):
    run(steps, "train", "a", plain=True)
    os.utime(project / "environment.json", (0, 0))
    run(steps, "train", "b", plain=True)
    assert (project / "environment.json").stat().st_mtime == 0


def test_a_mistake_is_one_line_and_nothing_is_recorded(project, capsys):
    assert run(refuses, "train", "a", plain=True) == 1
    *progress, said = capsys.readouterr().err.splitlines()
    assert said == "train a: params.yaml: run.device: missing"
    assert progress == ["train a  1/2 steps"]
    assert not (project / ".logs").exists()


def test_a_stage_without_names_is_called_by_its_own(project, capsys):
    assert run(refuses, "report", "report", plain=True) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("report: params.yaml")


def test_being_stopped_is_130_and_says_that_nothing_is_lost(project, capsys):
    def stopped(name: str) -> Iterator[Progress]:
        yield Progress(done=1, total=2)
        raise KeyboardInterrupt

    assert run(stopped, "train", "a", plain=True) == 130
    assert capsys.readouterr().err.endswith("train a: stopped; the same command goes on from the last saved state\n")


def test_a_bug_keeps_its_traceback(project):
    def broken(name: str) -> Iterator[Progress]:
        yield Progress(done=1, total=2)
        int("x")

    with pytest.raises(ValueError, match="invalid literal"):
        run(broken, "train", "a", plain=True)


def raised(action) -> Exception:
    with pytest.raises(Exception) as error:  # noqa: PT011 (each test says which)
        action()
    return error.value


def test_what_the_library_refuses_and_what_the_system_refuses_can_be_mended(tmp_path):
    assert mendable(raised(lambda: load(tmp_path / "no.yaml")))
    assert mendable(raised(lambda: (tmp_path / "a/b").write_text("x")))
    assert not mendable(raised(lambda: torch.zeros(2) + torch.zeros(3)))
    assert not mendable(raised(lambda: Image.new("NOMODE", (1, 1)))), "a ValueError, but from inside Pillow"


def test_every_explanation_is_one_line():
    assert explain(OSError(errno.EACCES, "Permission denied", "a/b")) == "[Errno 13] Permission denied: 'a/b'"
    assert explain(RuntimeError("two\nlines  here")) == "RuntimeError: two lines here"
    assert explain(KeyboardInterrupt()) == "stopped; the same command goes on from the last saved state"


def test_a_full_disk_is_said_whatever_library_found_it_full(tmp_path):
    """safetensors and tokenizers speak Rust, torch C++, the rest of the world errno."""
    in_rust = RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")
    in_c = OSError(errno.ENOSPC, "No space left on device", "data/a.bin")
    assert explain(in_rust).startswith(f"disk full: no space left for {Path.cwd()}; make some and run the same command")
    assert explain(in_c).startswith("disk full: no space left for data/a.bin; make some and run the same command")

    def write() -> None:
        with whole(tmp_path / "weights.bin") as beside:
            beside.write_bytes(b"half")
            raise in_rust

    error = raised(write)
    assert isinstance(error, OSError)
    assert (error.errno, error.filename) == (errno.ENOSPC, str(tmp_path / "weights.bin"))
    assert not list(tmp_path.iterdir())


STAGE = '''"""Wait for a while."""

import time
from flows.stage import main
from ldm.progress import Progress


def stage(name):
    print("it runs", flush=True)
    for done in range(1, 1000):
        yield Progress(done=done, total=1000)
        time.sleep(0.05)


if __name__ == "__main__":
    main(stage, table="things")
'''


@pytest.fixture
def command(project, monkeypatch) -> list[str]:
    """`python -m flows.wait`, with a module of this test's own beside those of flows."""
    (project / "params.yaml").write_text((project / "params.yaml").read_text() + "things: {one: {}, two: {}}\n")
    (project / "flows").mkdir()
    for module in (ROOT / "flows").glob("*.py"):
        (project / "flows" / module.name).symlink_to(module)
    (project / "flows/wait.py").write_text(STAGE)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return [sys.executable, "-m", "flows.wait"]


@pytest.mark.parametrize("which", [signal.SIGTERM, signal.SIGINT])
def test_a_stage_that_is_told_to_end_does_so_in_good_order(command, which):
    process = subprocess.Popen([*command, "one", "--plain"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "it runs\n"
    process.send_signal(which)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert said.splitlines()[-1] == "wait one: stopped; the same command goes on from the last saved state"
    assert "Traceback" not in said


def test_help_says_what_the_stage_does_and_which_names_there_are(command):
    done = subprocess.run([*command, "--help"], capture_output=True, text=True, check=True)
    for text in ("Wait for a while.", "example: python -m flows.wait one", "names in params.yaml: one, two", "--plain"):
        assert text in done.stdout


def test_a_stage_process_takes_threads_and_instructions_from_params_before_torch_is_there(project):
    program = "import flows, json, os, sys; print(json.dumps([dict(os.environ), 'torch' in sys.modules]))"
    environment = {k: v for k, v in os.environ.items() if not re.match("OMP|MKL|ATEN|ONEDNN|CUBLAS", k)}
    environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    chosen, torch_is_there = json.loads(done.stdout)
    expected = {
        "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_CBWR": "AVX2", "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    }  # fmt: skip
    assert expected.items() <= chosen.items()
    assert not torch_is_there
