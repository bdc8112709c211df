"""CLIP score: what torchmetrics gives on the same CLIP, under a name that says whether it is the published one."""

import pytest
import torch

from ldm.data.pictures import from_image
from ldm.evaluation import clip_score as room
from ldm.evaluation.clip_score import ClipScore
from ldm.sources.config import Drawn
from ldm.sources.drawn import draw, scene
from tests.clips import write_clip

# isort: split
from torchmetrics.functional.multimodal import clip_score

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("weights") / "clip")


def pictures(count: int, side: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    low = torch.rand(count, 3, 4, 4, generator=generator) * 255
    return torch.nn.functional.interpolate(low, size=side, mode="bilinear").to(torch.uint8)


def rows(*captions: str | None) -> list[dict]:
    return [{"id": str(i), "caption": caption} for i, caption in enumerate(captions)]


def measured(folder, images, captions, batch=4) -> ClipScore:
    score = ClipScore(folder, CPU)
    for start in range(0, len(images), batch):
        part = images[start : start + batch]
        padded = torch.cat([part, part[-1:].expand(batch - len(part), -1, -1, -1)])
        part_rows = rows(*captions)[start : start + batch]
        score.add(part_rows, score.measure(padded, part_rows))
    return score


@pytest.fixture(params=["scenes of 16 pixels", "scenes of 48 pixels", "wide photographs", "photographs"])
def real(request) -> torch.Tensor:
    """Ten real pictures: of CLIP's size, and smaller and larger ones."""
    if "photographs" in request.param:
        found = request.getfixturevalue("photographs")(10)
        return found[:, :, 4:26] if "wide" in request.param else found
    config, side = Drawn(kind="drawn", count=10, objects=1, seed=1, held_out=[]), int(request.param.split()[2])
    return torch.stack([from_image(draw(scene(config, i), side)[0]) for i in range(10)])


def test_agrees_with_torchmetrics(folder, real):
    from transformers import CLIPModel, CLIPTokenizer
    from transformers.models.clip import CLIPImageProcessorPil as Processor  # CLIP's own; torchvision's rounds once

    class Model(CLIPModel):
        """torchmetrics expects tensors, which transformers once returned."""

        def get_image_features(self, pixel_values):
            return super().get_image_features(pixel_values=pixel_values).pooler_output

        def get_text_features(self, input_ids, attention_mask):
            return super().get_text_features(input_ids=input_ids, attention_mask=attention_mask).pooler_output

    tokens = CLIPTokenizer.from_pretrained(folder)
    images = Processor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})

    def processor(text=None, images_=None, images=None, **_):
        if text is not None:
            return tokens(text, return_tensors="pt", padding=True)
        return prepare(images=images, return_tensors="pt")

    prepare, model = images, Model.from_pretrained(folder).eval()
    captions = ["red", "a red thing", "blue", "", "of"] * 2
    with torch.no_grad():
        theirs = clip_score(list(real), captions, model_name_or_path=lambda: (model, processor)).item()
    ours = measured(folder, real, captions).figures()["clip_score_unpublished"]
    assert theirs > 1
    assert ours == pytest.approx(theirs, rel=1e-3)


def test_only_the_published_clip_gives_clip_score(folder, monkeypatch):
    score = measured(folder, pictures(4, 16), ["red"] * 4)
    assert set(score.figures()) == set(score.intervals()) == {"clip_score_unpublished"}
    low, high = score.intervals()["clip_score_unpublished"]
    assert low <= score.figures()["clip_score_unpublished"] <= high
    assert score.about()["clip"]["source"] == "drawn at random"
    monkeypatch.setattr(room, "PUBLISHED", score.about()["clip"]["sha256"])
    assert ClipScore(folder, CPU).key == "clip_score"


def test_without_a_clip_or_captions_it_says_so(folder, tmp_path):
    with pytest.raises(ValueError, match="clip_score needs weights of kind clip"):
        ClipScore(tmp_path / "none", CPU)
    with pytest.raises(ValueError, match="sample of 1 has no caption; leave clip_score out"):
        ClipScore(folder, CPU).measure(pictures(2, 16), rows("red", None))
