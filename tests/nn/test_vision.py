"""Foreign networks: the hash is the contract, the name says what was used, torchvision imports beside a CPU torch."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from ldm.nn import vision
from ldm.nn.weights import PUBLISHED, weights

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
SQUEEZENET = SHARED / "weights" / "squeezenet1_0_imagenet_caffe_bgr_fp16.pt"
RESNET56 = SHARED / "weights" / "cifar10_resnet56-4bfd9763.th"


def folder_of(folder: Path, file: Path, kind: str, sha256: str | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / file.name).symlink_to(file) if file.parent != folder else None
    found = sha256 or hashlib.sha256(file.read_bytes()).hexdigest()
    about = {"kind": kind, "file": file.name, "sha256": found, "source": "a test"}
    (folder / "weights.json").write_text(json.dumps(about))
    return folder


def local_vgg16(folder: Path) -> Path:
    """A state dict with torchvision's names and shapes (the classifier left out), drawn at random."""
    folder.mkdir()
    state = vision.random_trunk_lpips(seed=5).net.net.state_dict()
    file = folder / "vgg16.pth"
    torch.save({f"features.{key.partition('.')[2]}": value for key, value in state.items()}, file)
    return folder_of(folder, file, "vgg16")


def pictures(files: list[Path], size: int) -> torch.Tensor:
    resized = [Image.open(file).convert("RGB").resize((size, size), Image.Resampling.BICUBIC) for file in files]
    rows = [torch.frombuffer(bytearray(p.tobytes()), dtype=torch.uint8).view(size, size, 3) for p in resized]
    return torch.stack(rows).permute(0, 3, 1, 2) / 127.5 - 1


def test_torchvision_imports_in_a_fresh_process():
    command = "import ldm.nn.vision, torchvision, torchvision.models; torchvision.models.squeezenet1_0"
    subprocess.run([sys.executable, "-c", command], check=True, cwd=Path(__file__).resolve().parents[2])


def test_folder_none_means_no_weights(tmp_path):
    assert weights(tmp_path / "none") is None
    assert vision.perceptual(tmp_path / "none") is None


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "weights.json").unlink(), "no weights.json"),
        (lambda folder: (folder / "file.pth").unlink(), "missing; fetch it"),
        (lambda folder: (folder / "file.pth").write_bytes(b"other"), "hash .* but weights.json says"),
        (
            lambda folder: (folder / "weights.json").write_text('{"kind": "vgg19"}'),
            "weights.json: w.kind: input should be",
        ),
    ],
)
def test_unusable_folders_are_refused_in_one_line(tmp_path, spoil, message):
    file = tmp_path / "w" / "file.pth"
    file.parent.mkdir()
    torch.save({"weight": torch.zeros(1)}, file)
    folder = folder_of(file.parent, file, "vgg16")
    spoil(folder)
    with pytest.raises(ValueError, match=message) as caught:
        weights(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [{"weight": torch.zeros(1)}, [1, 2], Path])
def test_a_file_of_something_else_is_refused_in_one_line(tmp_path, content):
    file = tmp_path / "file.pth"
    torch.save(content, file)
    folder = folder_of(tmp_path, file, "squeezenet")
    with pytest.raises(ValueError, match=r"not a state dict|does not fit|not a file of weights") as caught:
        vision.perceptual(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_lpips_is_the_packages_own_with_the_trunk_loaded(tmp_path):
    import lpips

    folder = local_vgg16(tmp_path / "vgg")
    ours = vision.perceptual(folder)
    theirs = lpips.LPIPS(net="vgg", pnet_rand=True, verbose=False)
    trunk = weights(folder).state_dict()
    state = {k: trunk[f"features.{k.partition('.')[2]}"] for k in theirs.net.state_dict()}
    theirs.net.load_state_dict(state)
    a, b = torch.rand(2, 2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    torch.testing.assert_close(ours(a, b), theirs(a, b).flatten(), rtol=1e-6, atol=1e-6)
    assert ours.name == "lpips_vgg_unpublished"


@pytest.mark.parametrize("black", [True, False])
def test_lpips_has_a_gradient_where_every_feature_is_zero(black):
    distance = vision.random_trunk_lpips()
    # without biases the trunk gives zeros alone for the picture that its scaling takes to zero
    image = torch.full((1, 3, 32, 32), -1.0) if black else distance.net.scaling_layer.shift.expand(1, 3, 32, 32)
    image = image.clone().requires_grad_()
    other = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    value = distance(image, other).sum()
    value.backward()
    assert value.isfinite()
    assert image.grad.isfinite().all()


def test_only_the_published_file_earns_the_published_name(tmp_path, monkeypatch):
    folder = local_vgg16(tmp_path / "vgg")
    monkeypatch.setitem(PUBLISHED, "vgg16", weights(folder).sha256)
    assert vision.perceptual(folder).name == "lpips_vgg"


def test_random_trunk_is_seeded_leaves_the_global_stream_alone_and_sees_blur():
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    blurred = torch.nn.functional.avg_pool2d(image, 5, stride=1, padding=2)
    before = torch.get_rng_state()
    first, second = vision.random_trunk_lpips(), vision.random_trunk_lpips()
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(first(image, blurred), second(image, blurred))
    assert first(image, image).item() == 0
    assert first(image, blurred).item() > 0.1
    assert first.name == "lpips_random_trunk"


@pytest.mark.skipif(not SQUEEZENET.exists(), reason="needs ../shared/data")
def test_squeezenet_distance_is_frozen_differentiable_and_zero_for_equal_pictures(tmp_path):
    distance = vision.perceptual(folder_of(tmp_path / "squeezenet", SQUEEZENET, "squeezenet"))
    assert distance.name == "features_squeezenet"
    assert not any(p.requires_grad for p in distance.parameters())
    image = torch.zeros(1, 3, 32, 32, requires_grad=True)  # flat: many features are exactly zero
    other = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    distance(image, other).sum().backward()
    assert image.grad.isfinite().all()
    assert image.grad.abs().max() > 0
    assert distance(other, other).item() == 0


@pytest.mark.skipif(not SQUEEZENET.exists(), reason="needs ../shared/data")
def test_squeezenet_takes_pizza_for_food(tmp_path):
    """The preprocessing is right: of 1,000 classes the likeliest for such photographs is a food (923 to 969)."""
    rows = [json.loads(line) for line in (SHARED / "food" / "captions.jsonl").read_text().splitlines()]
    named = [SHARED / "food" / r["file"] for r in rows if "pizza" in r["title"].lower()][:16]
    found = weights(folder_of(tmp_path / "squeezenet", SQUEEZENET, "squeezenet"))
    trunk, state = vision.trunk(found), found.state_dict()
    deepest = trunk(pictures(named, trunk.size))[-1]
    scores = torch.nn.functional.conv2d(deepest, state["classifier.1.weight"], state["classifier.1.bias"])
    likeliest = scores.relu().mean((2, 3)).argmax(1)
    assert ((likeliest >= 923) & (likeliest <= 969)).float().mean() >= 0.8


@pytest.mark.skipif(not RESNET56.exists(), reason="needs ../shared/data")
def test_resnet56_classifies_cifar10(tmp_path):
    import tarfile

    found = weights(folder_of(tmp_path / "resnet", RESNET56, "cifar_resnet56"))
    trunk, state = vision.trunk(found), found.state_dict()
    with tarfile.open(next((SHARED / "cifar10").glob("*test*.tar.gz"))) as tar:
        names = sorted(n for n in tar.getnames() if n.endswith((".jpg", ".jpeg")))[::20]
        files = [tar.extractfile(name) for name in names]
        images = pictures(files, 32)
    classes = sorted({Path(name).parent.name for name in names})
    truth = torch.tensor([classes.index(Path(name).parent.name) for name in names])
    scores = trunk(images)[-1].mean((2, 3)) @ state["linear.weight"].T + state["linear.bias"]
    assert (scores.argmax(1) == truth).float().mean() > 0.8
