"""A rebuild in a clean clone is compared with dvc.lock: what is the same, what differs, and what it began with."""

import json
import re
import signal
import time
from pathlib import Path

from PIL import Image

from flows.compare import Output, compare, differing_files, environment_differences, roots
from tests.flows.copies import copied


def stage(outs: dict[str, str], deps: dict[str, str] | None = None, params: dict | None = None) -> dict:
    """An entry as dvc.lock has it."""

    def listed(hashes: dict[str, str]) -> list[dict]:
        return [{"path": path, "hash": "md5", "md5": digest, "size": 1} for path, digest in hashes.items()]

    return {"cmd": "run", "deps": listed(deps or {}), "params": {"params.yaml": params or {}}, "outs": listed(outs)}


LOCK = {
    "prepare": stage({"data/a": "1"}, {"ldm/sources": "s"}, {"datasets.a": {"size": 16}}),
    "train": stage({"models/a": "2", "models/log": "3"}, {"data/a": "1", "ldm/nn": "n"}),
    "report": stage({"report": "4"}, {"models": "5"}),
}


def test_equal_hashes_are_the_same_and_no_stage_differs():
    assert {output.verdict for output in compare(LOCK, LOCK)} == {"same"}
    assert roots(LOCK, LOCK) == {}


def test_every_output_of_a_rebuilt_stage_is_compared_and_of_no_other():
    rebuilt = {"train": stage({"models/a": "changed", "models/new": "6"})}
    verdicts = {output.path: output.verdict for output in compare(LOCK, rebuilt)}
    assert verdicts == {
        "models/a": "differs",
        "models/log": "missing",
        "models/new": "not in the committed dvc.lock",
    }


def test_what_follows_from_another_difference_is_no_root():
    rebuilt = {
        "prepare": stage({"data/a": "x"}, {"ldm/sources": "s"}, {"datasets.a": {"size": 16}}),
        "train": stage({"models/a": "y", "models/log": "3"}, {"data/a": "x", "ldm/nn": "n"}),
        "report": stage({"report": "z"}, {"models": "w"}),
    }
    assert roots(LOCK, rebuilt) == {"prepare": []}


def test_a_root_names_the_inputs_that_are_not_the_committed_ones():
    rebuilt = LOCK | {"prepare": stage({"data/a": "x"}, {"ldm/sources": "t"}, {"datasets.a": {"size": 32}})}
    assert roots(LOCK, rebuilt) == {"prepare": ["ldm/sources", "params.yaml: datasets.a"]}


def test_an_environment_differs_by_what_was_changed_added_or_taken_away():
    lines = environment_differences({"torch": "2.13.0", "cpu": "A", "gpu": "none"}, {"torch": "2.11.0", "cpu": "A"})
    assert lines == [
        "torch: 2.13.0 where dvc.lock was made, 2.11.0 here",
        "gpu: none where dvc.lock was made, unknown here",
    ]


def test_the_files_that_differ_within_a_folder_are_named_where_both_caches_list_them(tmp_path):
    for cache, digest, hashes in (
        ("old", "aa1", {"same": "1", "weights": "2", "manifest.json": "3"}),
        ("new", "bb2", {"same": "1", "weights": "4", "manifest.json": "5", "more": "6"}),
    ):
        listing = tmp_path / cache / "files/md5" / digest[:2] / f"{digest[2:]}.dir"
        listing.parent.mkdir(parents=True)
        listing.write_text(json.dumps([{"relpath": name, "md5": found} for name, found in hashes.items()]))
    output = Output(stage="train", path="models/a", committed="aa1.dir", rebuilt="bb2.dir")
    assert differing_files(output, tmp_path / "old", tmp_path / "new") == ["more", "weights"]
    assert differing_files(output, tmp_path / "lost", tmp_path / "new") == []


def lock(project) -> str:
    return (project.folder / "dvc.lock").read_text()


def verify(project, tmp_path: Path, *targets: str):
    """Run it as a user does; what it leaves in its temporary folder is a fault."""
    temporary = tmp_path / "temporary"
    temporary.mkdir(exist_ok=True)
    done = project.run("python", "-m", "flows.verify", *targets, ok=False, TMPDIR=str(temporary))
    assert not list(temporary.iterdir())
    return done


def test_a_rebuild_finds_no_difference_and_takes_raw_data_from_the_cache_alone(rebuilt, tmp_path):
    project = copied(rebuilt, tmp_path / "project")
    raw = project.folder / "data/raw/mine"
    raw.mkdir()
    for i in range(20):
        Image.effect_noise((20, 16), 10 + i).convert("RGB").save(raw / f"{i}.png")
    project.edit(
        "datasets:\n",
        "datasets:\n  mine: {raw: data/raw/mine, source: {kind: folder, given_splits: false, licence: mine},"
        " size: 16, validation: 0.2, test: 0.2, on_bad_image: stop}\n",
    )
    project.run("dvc", "cache", "dir", "--local", str(tmp_path / "cache"))
    project.run("dvc", "add", "data/raw/mine")
    project.run("dvc", "repro", "prepare@mine")
    project.commit("My pictures")
    done = verify(project, tmp_path, "prepare@mine")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no difference: 1 outputs of 1 stages have the committed hashes" in done.stdout
    assert "another environment" not in done.stdout
    assert "prepare mine  20/20 pictures" in done.stderr  # it was rebuilt, not fetched


def test_a_hash_that_does_not_come_back_is_named_with_its_stage_and_another_environment_first(rebuilt, tmp_path):
    project = copied(rebuilt, tmp_path / "project")
    digest = re.search(r"path: data/prepared/scenes\s+hash: md5\s+md5: (\w+)\.dir", lock(project))[1]
    project.edit(digest, "0" * 32, "dvc.lock")
    project.edit('"torch": "', '"torch": "0.', "environment.json")
    project.commit("Another hash, from another environment")
    done = verify(project, tmp_path, "prepare@scenes")
    assert done.returncode == 1
    assert done.stdout.startswith("another environment: torch: 0.")
    assert "1 of 1 outputs are not as the committed dvc.lock says" in done.stdout
    assert "first to differ: prepare@scenes, from equal inputs" in done.stdout


def test_a_rebuild_that_stops_is_an_error_and_the_clone_is_kept_where_it_is_wanted(rebuilt, tmp_path):
    done = rebuilt.run("python", "-m", "flows.verify", "nothing@here", "--keep", ok=False, TMPDIR=str(tmp_path))
    assert done.returncode == 1
    assert "verify: the rebuild stopped; above is why (0 stages were rebuilt before)" in done.stderr
    (clone,) = tmp_path.iterdir()
    assert f"the clone is kept: {clone}" in done.stdout
    assert not (clone / "models/autoencoders/kl-f4").exists()


def test_a_tree_with_changes_proves_nothing_and_is_refused(rebuilt, tmp_path):
    project = copied(rebuilt, tmp_path / "project")
    project.edit("count: 120", "count: 121")
    done = verify(project, tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("verify: these files differ from the last commit: params.yaml; commit them")
    (project.folder / "dvc.lock").unlink()
    project.commit("Other parameters, and no dvc.lock")
    assert verify(project, tmp_path).stderr.startswith("verify: dvc.lock is not committed; run dvc repro")


def test_stopped_by_ctrl_c_it_leaves_neither_clone_nor_process(rebuilt, tmp_path):
    process = rebuilt.start("python", "-m", "flows.verify", "train_autoencoder@kl-f4", TMPDIR=str(tmp_path))
    until = time.monotonic() + 60
    while not list(tmp_path.glob("verify-*/.resume/train_autoencoder/*/*")) and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)  # ends only when no stage is left that could write to stderr
    assert process.returncode == 130
    assert said.endswith("verify: stopped\n")
    assert not list(tmp_path.iterdir())
