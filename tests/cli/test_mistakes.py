"""What a user gets wrong is one line that says how to mend it, and nothing is written."""

import json
import shutil
import subprocess
import sys

import pytest
import torch
from PIL import Image

from ldm.cli.models import enough_memory
from tests.clips import write_clip

LED = "--guide-kind", "classifier", "--classifier", "classifier"
COMMANDS = ("sample", "upscale", "inpaint", "colorize", "reconstruct", "import", "export")


@pytest.fixture
def files(ldm, tmp_path):
    Image.new("RGB", (16, 16), "orange").save(tmp_path / "p.png")
    Image.new("L", (16, 16), 0).save(tmp_path / "black.png")
    Image.new("L", (12, 16), 255).save(tmp_path / "narrow.png")
    Image.new("L", (16, 16), 77).save(tmp_path / "map.png")
    (tmp_path / "text.txt").write_text("not a picture")
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "far.json").write_text(json.dumps([{"category": "red square", "box": [0, 0, 16, 16]}]))
    (tmp_path / "unknown.json").write_text(json.dumps([{"category": "red sqare", "box": [0, 0, 0.5, 0.5]}]))
    (tmp_path / "words.json").write_text(json.dumps(["red square"]))
    (tmp_path / "empty").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sample", "txt"), "txt: no model there, nor in models/diffusion (there is: classifier, colours,"),
        (("sample", "text"), 'text is told text: say --prompt "a text", or --prompts FILE'),
        (("sample", "text", "--label", "1"), "text takes no --label: it is told text, by --prompt"),
        (("sample", "text", "--prompts", "empty.txt"), "empty.txt: no lines in it"),
        (("sample", "plain", "--prompt", "red"), "plain takes no --prompt: it is told nothing"),
        (("sample", "label"), "label is told label: say --label CLASS, one of red circle, red square,"),
        (("sample", "label", "--label", "red sqare"), "--label: no class 'red sqare' (did you mean 'red square'?)"),
        (("sample", "layout", "--layout", "far.json"), "far.json, box 1: [0, 0, 16, 16] is not within 0 to 1"),
        (("sample", "layout", "--layout", "unknown.json"), "unknown.json: no class 'red sqare' (did you mean"),
        (("sample", "layout", "--layout", "words.json"), 'four numbers; words.json is to hold [{"category": "dog"'),
        (("sample", "layout", "--layout", "p.png"), "p.png: not valid JSON"),
        (("sample", "map"), "map is shown label maps: say --label-map FILE.png"),
        (("sample", "map", "--label-map", "map.png"), "map.png: has the class 77, and this model knows 0 to 24"),
        (("sample", "map", "--label-map", "p.png"), "p.png: not a label map"),
        (("sample", "plain", "--label-map", "map.png"), "plain is shown no label maps"),
        (("sample", "upscaling"), "upscaling is shown low_resolution: use ldm upscale"),
        (("sample", "words", "--prompt", "red"), "words is told CLIP's embeddings: say --clip-weights"),
        (("sample", "plain", "--autoencoder", "other"), "models/autoencoders/other is not the first stage that"),
        (("sample", "plain", "--snapshot", "2"), "no snapshot of step 2 (there is: 1)"),
        (("sample", "plain", "--guidance", "2"), "guidance 2 leads away from the null condition"),
        (("sample", "plain", "--size", "18x16"), "--size 18x16: height and width must be multiples of 4"),
        (("sample", "plain", "--size", "big"), "--size big: expected HEIGHTxWIDTH"),
        (("sample", "plain", "--steps", "101"), "num_steps 101 must be from 1 to the schedule's 100"),
        (("sample", "plain", "--sampler", "ddpm", "--steps", "10"), "--sampler ddpm takes every step"),
        (("sample", "plain", "--sampler", "plms", "--eta", "1"), "--eta is of ddim"),
        (("sample", "plain", "--sampler", "dpm_solver", "--spacing", "released"), "--spacing is of ddim and plms"),
        (("sample", "plain", "--patches", "10"), "--patches 10: must be a multiple of 4 for plain"),
        (("sample", "plain", "--overlap", "10"), "--overlap is of --patches"),
        (("sample", "plain", "--patches", "16", "--overlap", "16"), "overlap 16 must be less than size 16"),
        (("sample", "plain", "--steps", "4", "--estimates", "5"), "--estimates 5: the sampler takes 4 steps; say so"),
        (("sample", "plain", "--strength", "0.5"), "--strength is of --start"),
        (("sample", "plain", "--start", "p.png", "--strength", "0"), "greater than 0"),
        (("sample", "plain", "--start", "gone.png"), "gone.png: not found"),
        (("sample", "plain", "--guide", "p.png"), "--guide and --guide-scale need --guide-kind"),
        (("sample", "plain", "--guide-kind", "grey"), "--guide-kind grey needs --guide PICTURE"),
        (("sample", "plain", "--guide-kind", "clip"), "--guide-kind clip needs --prompt and --clip-weights"),
        (
            ("sample", "plain", "--guide-kind", "classifier"),
            "--guide-kind classifier needs --classifier MODEL and",
        ),
        (("sample", "plain", "--classifier", "classifier"), "--classifier is of --guide-kind classifier: say both"),
        (("sample", "text", *LED, "--label", "0"), "--guide-kind classifier leads models told a label or nothing"),
        (("sample", "plain-f1", *LED, "--label", "0"), "plain-f1 and the latents that models/diffusion/classifier was"),
        (("sample", "plain", *LED, "--label", "0", "--size", "32"), "knows latents of the training size only"),
        (("sample", "classifier"), "this model is a classifier (objective: label): it guides others"),
        (("sample", "plain", "--guide-distance", "perceptual"), "--guide-distance perceptual and --perceptual-weights"),
        (("sample", "plain", "--guide-kind", "small", "--guide-scale", "0"), "--guide-scale 0 guides nothing"),
        (("upscale", "plain", "p.png"), "plain is shown no pictures, and this takes a model that is shown low_res"),
        (("upscale", "colours", "p.png"), "colours is shown grey, and this takes a model that is shown low_resolution"),
        (("upscale", "upscaling", "text.txt"), "text.txt: not a picture"),
        (("upscale", "upscaling", "empty"), "empty: no pictures in this folder"),
        (("inpaint", "plain", "p.png"), "p.png: no mask (p_mask.png); white is the hole"),
        (("inpaint", "plain", "p.png", "--mask", "narrow.png"), "narrow.png: 12 x 16 pixels, but p.png has 16 x 16"),
        (("inpaint", "plain", "p.png", "--mask", "black.png"), "black.png: nothing in it is white"),
        (("inpaint", "plain", "p.png", "--mask", "p.png", "--mask", "p.png"), "1 pictures and 2 masks"),
        (("inpaint", "map", "p.png", "--mask", "narrow.png"), "map is shown label_map"),
        (("inpaint", "inpainting", "p.png", "--mask", "narrow.png"), "inpainting is told text: say --prompt"),
        (("colorize", "colours", "gone.png"), "gone.png: not found"),
        (
            ("reconstruct", "vq", "p.png"),
            "vq: no model there, nor in models/autoencoders (there is: kl, other, pixels, wide)",
        ),
        (("import", "p.png"), "p.png: of which row of params.yaml? say --as ROW"),
        (("import", "gone.ckpt", "--as", "x"), "params.yaml: not found in"),
        (("export", "txt", "out"), "txt: no model there"),
        (("export", "map", "out"), "map: "),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_one_line_and_nothing_written(ldm, files, arguments, message):
    before = sorted(files.rglob("*"))
    result = ldm(*arguments)
    assert result.exit_code == 1, result.output
    assert message in result.stderr
    assert result.stderr.startswith(f"ldm {arguments[0]}: ")
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == ""
    assert sorted(files.rglob("*")) == before


def test_another_clip_than_that_of_the_latents_is_refused(ldm, files):
    write_clip(files / "other-clip", seed=4)
    for told in (("words", "--prompt", "red"), ("likeness", "--like", "p.png")):
        result = ldm("sample", *told, "--clip-weights", "other-clip")
        assert result.exit_code == 1
        assert f"other-clip: another CLIP than that of {told[0]} (hash " in result.stderr
        assert len(result.stderr.splitlines()) == 1
    assert not (files / "out").exists()


@pytest.mark.parametrize(
    ("weights", "command"),
    [
        ("diffusion/plain/ema.safetensors", ("sample", "plain")),
        ("autoencoders/kl/model.safetensors", ("sample", "plain")),
        ("autoencoders/other/model.safetensors", ("reconstruct", "other", "p.png")),
    ],
)
def test_damaged_weights_are_one_line(ldm, workplace, files, weights, command):
    (files / "models").unlink()
    shutil.copytree(workplace / "models", files / "models")
    path = files / "models" / weights
    path.write_bytes(path.read_bytes()[:100])
    result = ldm(*command)
    assert result.exit_code == 1
    assert f"models/{weights}: its weights cannot be read" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_no_memory_is_one_line_on_a_cpu_too():
    words = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."
    with pytest.raises(ValueError, match="say a smaller --batch"), enough_memory(torch.device("cpu")):
        raise RuntimeError(words)
    with pytest.raises(RuntimeError, match="shape"), enough_memory(torch.device("cpu")):
        raise RuntimeError("shape")


def test_nothing_is_written_over_unless_it_is_said(ldm, files):
    drawn = ("sample", "plain", "--steps", "1", "--count", "2")
    assert ldm(*drawn, "--seed", "1").exit_code == 0
    before = (files / "out/plain-1.png").read_bytes()
    again = ldm(*drawn)
    assert (again.exit_code, again.stderr.splitlines()) == (
        1, ["ldm sample: out/plain-1.png: there already; choose another --seed or --out, or say --overwrite"],
    )  # fmt: skip
    assert not (files / "out/plain-0.png").exists()
    assert ldm(*drawn, "--overwrite").exit_code == 0
    assert (files / "out/plain-1.png").read_bytes() == before


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples(ldm, command):
    result = ldm(command, "--help")
    assert result.exit_code == 0
    assert f"ldm {command} " in result.stdout.partition("Examples")[2]


def test_help_does_not_wait_for_torch():
    heavy = ("torch", "transformers", "numpy", "PIL")
    code = f"import sys, ldm.cli; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_mistake_is_told_without_a_traceback_by_the_process_too(tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "ldm.cli", "sample", "nothing"], capture_output=True, text=True, cwd=tmp_path
    )
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "ldm sample: nothing: no model there, nor in models/diffusion (there is: none)\n"
