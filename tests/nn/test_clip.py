"""CLIP from a local folder: tokens of captions and of pictures, and a likeness whose gradient reaches the picture."""

import shutil

import pytest
import torch

from ldm.files import write_json
from ldm.nn.clip import load
from tests.clips import write_clip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("weights") / "clip")


@pytest.fixture(scope="module")
def clip(folder):
    return load(folder)


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_a_caption_is_as_many_tokens_as_clip_has_and_longer_ones_are_cut(clip):
    tokens = clip.text(["red", "", "red " * 50])
    assert tokens.shape == (3, clip.length, clip.text_width)
    assert not torch.allclose(tokens[0], tokens[1])
    torch.testing.assert_close(tokens[:2], clip.text(["red", ""]))
    assert clip._ids(["red"])[0, :3].tolist() == [190, 189, 191], "the mark of the start, one word, that of the end"


def test_a_picture_is_one_token_at_every_size(clip):
    for shape in ((2, 3, 16, 16), (2, 3, 40, 40), (2, 3, 24, 40)):
        assert clip.image(noise(*shape)).shape == (2, 1, clip.image_width)
    wide = noise(1, 3, 16, 40)
    torch.testing.assert_close(clip.image(wide), clip.image(wide[..., 12:28])), "the middle is seen"


def test_embeddings_are_those_of_transformers(clip, folder):
    from transformers import CLIPModel

    model = CLIPModel.from_pretrained(folder)
    image = noise(2, 3, 16, 16)
    mean, std = torch.tensor([0.48145466, 0.4578275, 0.40821073]), torch.tensor([0.26862954, 0.26130258, 0.27577711])
    pixels = ((image + 1) / 2 - mean[:, None, None]) / std[:, None, None]
    expected = model(pixel_values=pixels, input_ids=clip._ids(["red", "blue"]))
    torch.testing.assert_close(clip.image(image)[:, 0], model.get_image_features(pixel_values=pixels).pooler_output)
    cosine = expected.logits_per_image.diagonal() / model.logit_scale.exp()
    torch.testing.assert_close(clip.similarity(image, ["red", "blue"]), cosine)


def test_following_the_gradient_makes_a_picture_more_like_its_caption(clip):
    image = noise(2, 3, 24, 24).requires_grad_()
    before = clip.similarity(image, ["red", "blue"])
    [gradient] = torch.autograd.grad(before.sum(), image)
    after = clip.similarity(image + 0.1 * gradient / gradient.norm(), ["red", "blue"])
    assert (after > before).all()
    assert not any(p.requires_grad for p in clip.parameters())


def test_what_is_wrong_with_a_folder_is_said_in_one_line(folder, tmp_path):
    assert load(tmp_path / "none") is None
    lacking = shutil.copytree(folder, tmp_path / "lacking")
    (lacking / "merges.txt").unlink()
    with pytest.raises(ValueError, match=r"merges\.txt: missing; copy it there"):
        load(lacking)
    other = shutil.copytree(folder, tmp_path / "other")
    (other / "vocab.json").write_text('{"<|startoftext|>": 0, "<|endoftext|>": 1}')
    with pytest.raises(ValueError, match=r"no CLIP in its JSON files .*; copy them from drawn at random"):
        load(other)
    (other / "vocab.json").write_text((folder / "vocab.json").read_text().replace('"re": 188, ', ""))
    (other / "merges.txt").write_text("#version: 0.2\n")
    with pytest.raises(ValueError, match=r"makes 191 tokens, config.json says 192"):
        load(other)
    wider = shutil.copytree(folder, tmp_path / "wider")
    text = (wider / "config.json").read_text()
    (wider / "config.json").write_text(text.replace('"projection_dim": 6', '"projection_dim": 7'))
    with pytest.raises(ValueError, match="does not fit kind clip") as caught:
        load(wider)
    assert "\n" not in str(caught.value)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "f").write_bytes(b"")
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    write_json(foreign / "weights.json", {"kind": "alexnet", "file": "f", "sha256": empty, "source": "x"})
    with pytest.raises(ValueError, match="kind alexnet is not clip"):
        load(foreign)
