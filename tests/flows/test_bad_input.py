"""Every mistake of a user gets one line that says where and how to mend it, exit code 1, and loses nothing made before.

Stages run in this process where a process of their own adds nothing; those at the end are real ones.
"""

import importlib
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from flows.stage import run
from ldm.files import read_json, sha256

PICTURES = "source: {kind: drawn, count: 120, objects: 1, seed: 1, held_out: [red triangle, blue circle]}"


@pytest.fixture(scope="module")
def built(checkout):
    """The smoke preset up to its smallest model, each stage run here in turn; on one thread, which busy cores bear."""
    project = checkout("bad-input")
    project.edit("threads: 2", "threads: 1", "presets/smoke.yaml")
    shutil.copyfile(project.folder / "presets/smoke.yaml", project.folder / "params.yaml")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project.folder)
        assert [begin(*stage) for stage in BUILT] == [0] * len(BUILT)
    return project


BUILT = [
    ("prepare", "scenes"),
    ("train_autoencoder", "kl-f4"),
    ("train_autoencoder", "pixels"),
    ("cache_latents", "scenes-pixels"),
    ("train_diffusion", "sr-f1"),
]


def begin(stage: str, name: str) -> int:
    return run(importlib.import_module(f"flows.{stage}").stage, stage, name, plain=True)


@pytest.fixture
def project(built, monkeypatch):
    """The built project with params.yaml and raw pictures as they were before any test."""
    monkeypatch.chdir(built.folder)
    shutil.copyfile("presets/smoke.yaml", "params.yaml")
    shutil.rmtree("data/raw/mine", ignore_errors=True)
    shutil.rmtree(".resume", ignore_errors=True)
    return built


@pytest.fixture
def fails(project, capsys) -> Callable[[str, str], str]:
    """Run a stage that must fail; what it says, after holding that all that was made is still there."""

    def run_badly(stage: str, name: str) -> str:
        before = made()
        capsys.readouterr()
        assert begin(stage, name) == 1
        assert made() == before
        return only_line(capsys.readouterr().err, f"{stage} {name}")

    return run_badly


def only_line(stderr: str, label: str) -> str:
    """What a stage said besides its progress, without the label that it begins with."""
    [line] = [line for line in stderr.splitlines() if not line.startswith(f"{label}  ")]
    assert line.startswith(f"{label}: ")
    return line.removeprefix(f"{label}: ")


def made() -> dict[str, str]:
    folders = map(Path, ("data/prepared", "data/latents", "models", "samples", "metrics"))
    return {str(path): sha256(path) for folder in folders for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("on_bad_image", "on_bad_imgae", "datasets.scenes: unknown key 'on_bad_imgae', did you mean 'on_bad_image'?"),
        ("objects: 1", "object: 1", "datasets.scenes.source: unknown key 'object', did you mean 'objects'?"),
        ("count: 120", "count: many", "datasets.scenes.source.count: input should be a valid integer, found 'many'"),
        ("count: 120", "count: 120.5", "datasets.scenes.source.count: input should be a valid integer"),
        ("validation: 0.1", "validation: 1.1", "datasets.scenes.validation: input should be less than 1, found 1.1"),
        ("size: 16", "size: 7", "datasets.scenes.size: input should be greater than or equal to 8, found 7"),
        ("kind: drawn", "kind: drawing", "datasets.scenes.source: input tag 'drawing' found using 'kind' does not"),
        ("red triangle", "red star", "datasets.scenes.source.held_out: 'red star' is not a colour (red, orange"),
        ("on_bad_image: stop", "on_bad_image: stay", "datasets.scenes.on_bad_image: input should be 'stop' or 'skip'"),
        ("    size: 16\n", "", "datasets.scenes.size: missing"),
        ("  scenes:", "  scene:", "datasets: no entry 'scenes', did you mean 'scene'?"),
        ("datasets:", "dataset:", "the top level: no entry 'datasets', did you mean 'dataset'?"),
    ],
)  # fmt: skip
def test_a_wrong_entry_names_its_place_and_what_would_be_right(project, fails, old, new, message):
    project.edit(old, new)
    assert fails("prepare", "scenes").startswith(f"params.yaml: {message}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"datasets: [1\n", "params.yaml, line 2: not valid YAML: expected ',' or ']', but got '<stream end>'"),
        (b"run: {}\nrun: {}\n", 'params.yaml, line 2: not valid YAML: found duplicate key "run"'),
        (b"\ta: 1\n", "params.yaml, line 1: not valid YAML: "),
        (b"- datasets\n", "params.yaml: expected a table of sections, found ['datasets']"),
        (b"", "params.yaml: expected a table of sections, found nothing"),
        (b"a: \xe9\n", "params.yaml: cannot be read: 'utf-8' codec can't decode byte 0xe9"),
        (None, "params.yaml: not found in "),
    ],
    ids=["open bracket", "key twice", "tab", "list", "empty", "latin-1", "missing"],
)
def test_params_that_cannot_be_read(fails, content, message):
    Path("params.yaml").unlink()
    if content is not None:
        Path("params.yaml").write_bytes(content)
    assert fails("prepare", "scenes").startswith(message)


def test_a_missing_run_section_is_said_before_training(project, fails):
    project.edit("run: {mode", "rnu: {mode")
    assert fails("train_diffusion", "sr-f1") == "params.yaml: the top level: no entry 'run', did you mean 'rnu'?"


def mine(project, kind: str = "folder", raw: str = "data/raw/mine", **given: object) -> Path:
    """Make `scenes` a data set of the user's own pictures, of which there are three."""
    source = {"kind": kind, "licence": ""} | ({"given_splits": False} if kind != "captions" else {}) | given
    project.edit(f"raw: data/raw/none\n    {PICTURES}", f"raw: {raw}\n    source: {json.dumps(source)}")
    folder = project.folder / "data/raw/mine"
    folder.mkdir()
    for number in range(3):
        Image.effect_mandelbrot((40, 40), (-2 + number, -1, 1, 1), 50).convert("RGB").save(folder / f"{number}.png")
    return folder


def test_a_missing_and_an_empty_folder(project, fails):
    mine(project, raw="data/raw/mien")
    assert fails("prepare", "scenes").startswith("data/raw/mien: not found; put the pictures there")
    Path("data/raw/mien").mkdir()
    assert fails("prepare", "scenes").startswith("data/raw/mien: no pictures there (it is empty); put .jpg, ")
    Path("data/raw/mien").rmdir()


def test_a_corrupt_picture_is_named_or_skipped_and_counted(project, fails):
    folder = mine(project)
    (folder / "1.png").write_bytes((folder / "1.png").read_bytes()[:150])
    said = fails("prepare", "scenes")
    assert said.startswith("data/raw/mine/1.png: corrupt or truncated (")
    assert said.endswith("); mend or remove it, or say on_bad_image: skip")

    project.edit("on_bad_image: stop", "on_bad_image: skip")
    project.edit("datasets:\n  scenes:", "datasets:\n  mine:")
    assert begin("prepare", "mine") == 0
    [skipped] = read_json(Path("data/prepared/mine/dataset.json"))["skipped"]
    assert skipped["path"] == "1.png"
    shutil.rmtree("data/prepared/mine")


def test_captions_that_do_not_fit_the_pictures(project, fails):
    folder = mine(project, "captions", file="captions.jsonl", caption=["caption"])
    assert fails("prepare", "scenes").startswith("data/raw/mine/captions.jsonl: not found; write it")
    lines = [{"file": f"{number}.png", "caption": "a"} for number in (0, 1, 2, 9)]
    (folder / "captions.jsonl").write_text("\n".join(map(json.dumps, lines)))
    place = "data/raw/mine/captions.jsonl, line 4"
    assert fails("prepare", "scenes") == f"{place}: no picture '9.png' in data/raw/mine; mend the line"
    lines[3]["file"] = "0.png"
    (folder / "captions.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert fails("prepare", "scenes") == f"{place}: duplicate id '0.png', first on line 1; keep one"


def test_weights_whose_hash_is_another(project, fails):
    folder = Path("data/weights/mine")
    folder.mkdir(exist_ok=True)
    (folder / "weights.pt").write_bytes(b"something else")
    about = {"kind": "vgg16", "file": "weights.pt", "sha256": "0" * 64, "source": "a place"}
    (folder / "weights.json").write_text(json.dumps(about))
    project.edit("split: test, features: none", "split: test, features: mine")
    assert fails("reference", "scenes-test") == (
        f"data/weights/mine/weights.pt: hash {sha256(folder / 'weights.pt')[:12]}..., "
        "but weights.json says 000000000000...; fetch it again"
    )
    project.edit("features: mine", "features: mien")
    assert fails("reference", "scenes-test") == (
        "params.yaml: evaluation.references.scenes-test.features: no 'mien' in data/weights, did you mean 'mine'?"
    )


def test_sizes_that_do_not_fit(project, fails):
    project.edit("  scenes:\n    raw", "  odd:\n    raw")
    project.edit("size: 16", "size: 62")
    assert begin("prepare", "odd") == 0
    project.edit("kind: kl\n    dataset: scenes", "kind: kl\n    dataset: odd")
    assert fails("train_autoencoder", "kl-f4") == "data/prepared/odd: size 62 is not a multiple of factor 4"
    project.edit("dataset: scenes, autoencoder: pixels", "dataset: odd, autoencoder: pixels")
    assert fails("cache_latents", "scenes-pixels") == (
        "data/prepared/odd, low_resolution.factor 4: size 62 is not a multiple of factor 4"
    )
    shutil.rmtree("data/prepared/odd")
    project.edit("channels: 8, channel_mult: [1, 2], num", "channels: 8, channel_mult: [1, 1, 1, 1, 1, 2], num")
    assert fails("train_diffusion", "sr-f1") == (
        "unet.channel_mult halves the size 5 times, but latent size 16 is not a multiple of 32"
    )


def test_stages_that_have_not_run_yet_or_belong_to_others(project, fails):
    assert fails("train_diffusion", "text-f4").startswith("data/latents/scenes-kl-f4: not found; bring it there, or")
    project.edit("latents: scenes-pixels\n    autoencoder: pixels", "latents: scenes-pixels\n    autoencoder: kl-f4")
    assert fails("train_diffusion", "sr-f1") == (
        "data/latents/scenes-pixels were not made by models/autoencoders/kl-f4: "
        "name the autoencoder of these latents in the diffusion row"
    )
    project.edit("split: test, count: 16", "split: held-out, count: 16")
    assert fails("sample", "sr-f1").startswith("params.yaml: samples.sr-f1.split: input should be 'train', ")


def test_a_loss_that_leaves_the_numbers_stops_with_the_step_and_keeps_the_last_checkpoint(project, fails):
    project.edit("steps: 20, batch: 8, lr: 2.0e-3, warmup: 5, loss: l2, ema: 0.9, seed: 6, save_every: 6",
                 "steps: 20, batch: 8, lr: 1.0e+9, warmup: 5, loss: l2, ema: 0.9, seed: 6, save_every: 1")  # fmt: skip
    said = fails("train_diffusion", "sr-f1")
    assert said.startswith("loss, gradient_norm, loss_t1, ")
    assert said.endswith(
        " is not a finite number at step 2. The same command goes on from the checkpoint of step 1; "
        "should it come to this again, lower train.lr or raise train.warmup, which begins anew"
    )
    assert [path.name for path in Path(".resume").rglob("*.pt")] == ["step-000000001.pt"]


WRITES = {"prepare": "data/prepared", "cache_latents": "data/latents", "train_autoencoder": "models/autoencoders"}


@contextmanager
def small_disk(folder: str, kilobytes: int) -> Iterator[Callable[[], object]]:
    """A disk of this size in the place of `folder`, with its empty entry; yields what makes it large."""
    Path(folder).mkdir(exist_ok=True)
    none = {path: path.read_bytes() for path in Path(folder).glob("none/*")}
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", folder]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a disk to fill needs the right to mount one")
    try:
        for path, content in none.items():
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
        yield lambda: subprocess.run(["mount", "-o", "remount,size=64m", folder], check=True)
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize(
    ("disk", "kilobytes", "stage", "name", "place"),
    [
        (".resume", 32, "prepare", "scenes", ".resume/prepare/scenes/"),
        ("data/prepared", 8, "prepare", "scenes", "data/prepared/scenes/"),
        ("data/latents", 8, "cache_latents", "scenes-pixels", "/"),
        (".resume", 96, "train_autoencoder", "kl-f4", ".resume/train_autoencoder/kl-f4/"),
        ("models/autoencoders", 64, "train_autoencoder", "kl-f4", "models/autoencoders/kl-f4/model.safetensors"),
    ],
    ids=["parts", "shards", "tokenizer", "checkpoint", "weights"],
)
def test_a_full_disk_is_said_and_with_room_the_same_command_ends_as_ever(
    project, capsys, disk, kilobytes, stage, name, place
):
    manifest = Path(WRITES[stage], name, "manifest.json")
    expected = sha256(manifest)
    with small_disk(disk, kilobytes) as make_room:
        assert begin(stage, name) == 1
        said = only_line(capsys.readouterr().err, f"{stage} {name}")
        assert said.startswith(f"disk full: no space left for {place}")
        assert said.endswith("; make some and run the same command, nothing finished is lost")
        make_room()
        assert begin(stage, name) == 0
        assert sha256(manifest) == expected


def test_a_stage_process_says_the_same_and_exits_with_one(project):
    done = project.stage("sample", "nope", ok=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "sample nope: params.yaml: samples: no entry 'nope' (there is: text-f4, sr-f4, sr-f1)\n"


def test_a_stage_process_without_params(project):
    Path("params.yaml").unlink()
    done = project.stage("prepare", "scenes", ok=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"prepare scenes: params.yaml: not found in {project.folder}; "
        "go to the project's folder, or start there from one of presets/*.yaml\n"
    )


def test_dvc_repro_shows_the_line_and_exits_badly(project):
    folder = mine(project)
    (folder / "2.png").write_text("no picture")
    done = project.run("dvc", "repro", "--single-item", "prepare@scenes", ok=False)
    assert done.returncode != 0
    lines = done.stderr.splitlines()
    assert lines[0].startswith(
        "prepare scenes: data/raw/mine/2.png: not a picture (JPEG, PNG, WEBP, BMP, GIF, TIFF, PPM)"
    )
    assert lines[1:] == [
        "ERROR: failed to reproduce 'prepare@scenes': failed to run: python -m flows.prepare scenes, exited with 1"
    ]
