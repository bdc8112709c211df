"""Commands on pictures: any size, several at once, what is known stays."""

import json

import pytest
import torch
from PIL import Image

from ldm.autoencoder.model import KLAutoencoder
from ldm.data.pictures import psnr
from tests.interop import release, rows

from .conftest import pixels


def write(path, width, height, seed=0):
    values = torch.randint(0, 256, (height, width, 3), generator=torch.Generator().manual_seed(seed)).byte().numpy()
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(values).save(path)
    return path


def write_mask(path, width, height, hole):
    mask = Image.new("L", (width, height), 0)
    mask.paste(255, hole)
    mask.save(path)
    return path


def test_upscaled_by_the_factor_whatever_the_size(drawn, tmp_path):
    paths = [write(tmp_path / f"{name}.png", *size) for name, size in {"a": (8, 8), "b": (9, 7), "c": (1, 3)}.items()]
    made = drawn("upscale", "upscaling", *paths, "--count", 2)
    assert [path.name for path in made] == [f"{name}-{seed}.png" for name in "abc" for seed in (0, 1)]
    assert [tuple(pixels(path).shape) for path in made[::2]] == [(3, 16, 16), (3, 14, 18), (3, 6, 2)]


@pytest.mark.parametrize("model", ["inpainting", "plain", "plain-f1"])
def test_only_the_hole_is_filled(drawn, tmp_path, model):
    picture = write(tmp_path / "p.png", 22, 18)
    write_mask(tmp_path / "m.png", 22, 18, (5, 4, 15, 18))
    told = ("--prompt", "red") if model == "inpainting" else ()
    (path,) = drawn("inpaint", model, picture, "--mask", "m.png", *told)
    before, after = pixels(picture), pixels(path)
    changed = (before != after).any(0)
    hole = torch.zeros(18, 22, dtype=torch.bool)
    hole[4:18, 5:15] = True
    assert changed[hole].float().mean() > 0.9
    assert not changed[~hole].any()


def test_masks_by_name_in_a_folder_beside_the_picture_or_one_each(drawn, tmp_path):
    for name in "ab":
        write(tmp_path / "pictures" / f"{name}.png", 16, 16)
        write_mask(tmp_path / "pictures" / f"{name}_mask.png", 16, 16, (0, 0, 9, 9))
    beside = drawn("inpaint", "plain", "pictures")
    in_folder = drawn("inpaint", "plain", "pictures/a.png", "pictures/b.png", "--mask", "pictures", "--out", "2")
    masks = [argument for name in "ab" for argument in ("--mask", f"pictures/{name}_mask.png")]
    each = drawn("inpaint", "plain", "pictures/a.png", "pictures/b.png", *masks, "--out", "3")
    assert [path.name for path in beside] == ["a-0.png", "b-0.png"]
    assert [path.read_bytes() for path in beside] == [path.read_bytes() for path in in_folder]
    assert [path.read_bytes() for path in beside] == [path.read_bytes() for path in each]


def test_guided_to_what_is_known(drawn, tmp_path):
    write(tmp_path / "p.png", 16, 16)
    write_mask(tmp_path / "p_mask.png", 16, 16, (0, 0, 9, 9))
    drawn("inpaint", "plain", "p.png", "--guide-scale", 0.1)


def test_colours_do_not_depend_on_those_of_the_picture(drawn, tmp_path):
    picture = write(tmp_path / "coloured.png", 18, 21)
    Image.open(picture).convert("L").save(tmp_path / "grey.png")
    coloured, grey = drawn("colorize", "colours", "coloured.png", "grey.png")
    assert pixels(coloured).shape == (3, 21, 18)
    assert coloured.read_bytes() == grey.read_bytes()


def test_reconstructed_with_its_psnr(ldm, tmp_path):
    picture = write(tmp_path / "p.png", 21, 18)
    result = ldm("reconstruct", "kl", picture)
    path, figure, unit = result.stdout.split()
    assert unit == "dB"
    made, original = pixels(tmp_path / path), pixels(picture)
    assert made.shape == original.shape
    assert float(figure) == pytest.approx(psnr(original[None].byte(), made[None].byte()).item(), abs=0.006)
    assert "100.00 dB" in ldm("reconstruct", "pixels", picture, "--out", "same").stdout


def test_large_pictures_pass_the_first_stage_in_tiles(drawn, ldm, tmp_path, monkeypatch):
    encode, seen = KLAutoencoder.encode, []

    def watched(model, image):
        seen.append(max(image.shape[2:]))
        return encode(model, image)

    monkeypatch.setattr(KLAutoencoder, "encode", watched)
    picture = write(tmp_path / "p.png", 18, 531)
    (path,) = drawn("colorize", "colours", picture)
    assert pixels(path).shape == (3, 531, 18)
    assert ldm("reconstruct", "kl", picture, "--out", "again").exit_code == 0
    assert seen == [512] * 4
    assert ldm("reconstruct", "kl", picture, "--out", "smaller", "--tile", 256).exit_code == 0
    assert set(seen[4:]) == {256}


def test_exported_and_imported_again_it_is_the_same(ldm, tmp_path):
    pytest.importorskip("diffusers", reason="diffusers (the extra `test`) is not installed")
    picture = write(tmp_path / "p.png", 16, 16)
    exported = ldm("export", "wide", "exported")
    assert (exported.exit_code, exported.stdout) == (0, "exported: AutoencoderKL\n")
    imported = ldm("import", "exported", "--models", "elsewhere", "--name", "again")
    assert imported.exit_code == 0, imported.output
    assert "wrote elsewhere/autoencoders/again" in imported.stdout
    ours, theirs = (ldm("reconstruct", name, picture, "--out", out) for name, out in WIDE)
    assert ours.stdout.split()[1:] == theirs.stdout.split()[1:]


WIDE = (("wide", "ours"), ("elsewhere/autoencoders/again", "theirs"))


def test_a_released_checkpoint_is_imported_by_its_row(ldm, tmp_path):
    stage = release.first_stage(channels=128, mult=[1, 1], blocks=1, attention=[], z=3, codes=None, mid=True)
    torch.save({"state_dict": release.drawn(stage, 1)}, tmp_path / "model.ckpt")
    (tmp_path / "params.yaml").write_text(json.dumps(rows.params()))
    result = ldm("import", "model.ckpt", "--as", "autoencoders.kl", "--name", "released", "--models", "elsewhere")
    assert result.exit_code == 0, result.output
    assert "tensors of the first stage" in result.stdout
    assert ldm("reconstruct", "elsewhere/autoencoders/released", write(tmp_path / "p.png", 16, 16)).exit_code == 0
    again = ldm("import", "model.ckpt", "--as", "other", "--models", "elsewhere")
    assert (again.exit_code, len(again.stderr.splitlines())) == (1, 1)
