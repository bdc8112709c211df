"""Distances between sets of pictures: closed forms, agreement with peers, sensitivity, names that tell the truth."""

import hashlib
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch.utils.data import Dataset

from ldm.data.pictures import from_image, low_resolution
from ldm.data.shards import Images
from ldm.evaluation.config import Reference
from ldm.evaluation.features import Extractor, RandomConvolutions, extractor
from ldm.evaluation.fidelity import SPLITS, InceptionScore, splits
from ldm.evaluation.kept import ROWS
from ldm.evaluation.pairwise import kernel_distance, precision_recall
from ldm.evaluation.reconstruction import enlarge
from ldm.evaluation.reference import reference
from ldm.evaluation.statistics import Gaussian, RealStatistics, Statistics, frechet
from ldm.files import read_json, write_manifest
from ldm.nn.vision import CifarResNet56
from ldm.nn.weights import PUBLISHED
from ldm.sources.config import Drawn
from ldm.sources.drawn import draw, scene
from tests.evaluation.conftest import SHARED

# isort: split
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric

CPU = torch.device("cpu")
SQUEEZENET = Path("weights/squeezenet1_0_imagenet_caffe_bgr_fp16.pt")
RESNET = Path("weights/cifar10_resnet56-4bfd9763.th")


class Pictures(Dataset):
    def __init__(self, pictures: torch.Tensor) -> None:
        self.pictures = pictures

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.pictures[index]


def weights_folder(folder: Path, file: Path, kind: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "weights.pth").symlink_to(file)
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    about = {"kind": kind, "file": "weights.pth", "sha256": found, "source": "a test"}
    (folder / "weights.json").write_text(json.dumps(about))
    return folder


def statistics(features: torch.Tensor, step: int = 7) -> Statistics:
    found = Statistics()
    for part in features.split(step):
        found.add(part)
    return found


def real_statistics(pictures: torch.Tensor, extract: Extractor) -> RealStatistics:
    features, _ = extract(pictures)
    return RealStatistics.of(statistics(features), (statistics(features[::2]), statistics(features[1::2])), extract)


def scenes(count: int) -> torch.Tensor:
    """Drawn scenes of 32 x 32 pixels."""
    config = Drawn(kind="drawn", count=count, objects=1, seed=1, held_out=[])
    return torch.stack([from_image(draw(scene(config, i), 32)[0]) for i in range(count)])


def blurred(pictures: torch.Tensor, factor: int = 4) -> torch.Tensor:
    return torch.stack([enlarge(low_resolution(p, factor), like=p) for p in pictures])


def gaussian(seed: int, d: int = 5) -> Gaussian:
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(d, d, generator=generator, dtype=torch.float64)
    return Gaussian(torch.randn(d, generator=generator, dtype=torch.float64), root @ root.T + 0.1 * torch.eye(d))


def test_frechet_distance_of_axis_aligned_gaussians_has_a_closed_form():
    m1, m2 = torch.tensor([1.0, -2.0, 0.5]).double(), torch.tensor([0.0, 1.0, 0.5]).double()
    s1, s2 = torch.tensor([1.0, 2.0, 3.0]).double(), torch.tensor([2.0, 0.5, 3.0]).double()
    expected = (m1 - m2).square().sum() + (s1 - s2).square().sum()
    found = frechet(Gaussian(m1, s1.square().diag()), Gaussian(m2, s2.square().diag()))
    assert found == pytest.approx(expected.item(), rel=1e-12)


def test_frechet_distance_agrees_with_scipy_is_symmetric_and_zero_for_equals():
    a, b = gaussian(1), gaussian(2)
    root = sqrtm(a.covariance.numpy() @ b.covariance.numpy()).real
    expected = (a.mean - b.mean).square().sum().item() + (
        a.covariance + b.covariance - 2 * torch.from_numpy(root)
    ).trace().item()
    assert frechet(a, b) == pytest.approx(expected, rel=1e-9)
    assert frechet(a, b) == pytest.approx(frechet(b, a), rel=1e-9)
    assert frechet(a, a) == pytest.approx(0, abs=1e-9)


def test_scaling_features_is_scaling_the_gaussian():
    x = torch.randn(50, 4, generator=torch.Generator().manual_seed(0)).double()
    scale = torch.tensor([1.0, 10.0, 0.1, 3.0]).double()
    direct, scaled = statistics(x / scale).gaussian(), statistics(x).gaussian().over(scale)
    torch.testing.assert_close(direct.mean, scaled.mean)
    torch.testing.assert_close(direct.covariance, scaled.covariance)


def test_statistics_are_numpys_whatever_the_steps():
    x = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    for step in (1, 7, 50):
        found = statistics(x, step).gaussian()
        np.testing.assert_allclose(found.mean, x.double().mean(0), rtol=1e-12)
        np.testing.assert_allclose(found.covariance, np.cov(x.double().numpy(), rowvar=False), rtol=1e-10)


def test_only_the_first_features_are_kept_but_all_are_counted():
    found = Statistics(keep=10)
    for part in torch.arange(24.0).view(12, 2).split(4):
        found.add(part)
    assert found.count == 12
    assert found.kept.equal(torch.arange(20.0).view(10, 2))
    assert found.gaussian().mean.tolist() == [11, 12]


def test_random_convolutions_are_always_the_same(none):
    before = torch.get_rng_state()
    pictures = torch.arange(3 * 16 * 16, dtype=torch.uint8).view(1, 3, 16, 16)
    first, second = extractor(none, CPU)(pictures)[0], extractor(none, CPU)(pictures)[0]
    assert first.equal(second)
    assert first.shape == (1, 102)
    assert torch.get_rng_state().equal(before)


def test_agrees_with_torch_fidelitys_own_pipeline(none, photographs):
    """The registered extractor in calculate_metrics gives the numbers of our loop, before features are standardised."""
    from torch_fidelity import calculate_metrics

    one, other = photographs(64), photographs(64, "train")
    theirs = calculate_metrics(
        input1=Pictures(one), input2=Pictures(other), feature_extractor="random_conv", cuda=False, fid=True, kid=True,
        prc=True, isc=False, kid_subset_size=64, cache=False, save_cpu_ram=True, verbose=False,
    )  # fmt: skip
    plain = Extractor(
        name="plain", network=extractor(none, CPU).network, standardise=False, about={"features": "plain"}
    )
    ours = real_statistics(other, plain).fidelity(statistics(plain(one)[0]), plain)
    assert ours["fd_plain"] == pytest.approx(theirs["frechet_inception_distance"], rel=1e-3)
    assert ours["kid_plain"] == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-3)
    assert ours["precision_plain"] == pytest.approx(theirs["precision"], abs=1e-3)
    assert ours["recall_plain"] == pytest.approx(theirs["recall"], abs=1e-3)


def test_what_is_computed_block_by_block_is_torch_fidelitys_of_all_at_once():
    made, real = (
        torch.randn(count, 6, generator=torch.Generator().manual_seed(count)).double() for count in (1210, 700)
    )
    assert min(len(made), len(real)) > ROWS
    theirs = prc_features_to_metric(made, real, prc_neighborhood=3, verbose=False)
    assert precision_recall(made, real, 3) == pytest.approx((theirs["precision"], theirs["recall"]), abs=1e-6)
    theirs = kid_features_to_metric(made, real, kid_subset_size=600, kid_subsets=3, verbose=False)
    expected = theirs["kernel_inception_distance_mean"], theirs["kernel_inception_distance_std"]
    assert kernel_distance(made, real, 600, 3) == pytest.approx(expected, rel=1e-9)


def test_agrees_with_torchmetrics(none, photographs):
    from torchmetrics.image.fid import FrechetInceptionDistance

    one, other = photographs(200), photographs(200, "train")

    class Network(RandomConvolutions):
        num_features = 102

        def forward(self, pixels):
            return super().forward(pixels)[0]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = FrechetInceptionDistance(feature=Network("random_conv", ["features"]), normalize=False)
    theirs.update(one, real=True)
    theirs.update(other, real=False)
    extract = extractor(none, CPU)
    a, b = (statistics(extract(pictures)[0]).gaussian() for pictures in (one, other))
    assert frechet(a, b) == pytest.approx(theirs.compute().item(), rel=1e-3)


def test_blur_stands_far_above_real_against_real_on_photographs(none, photographs):
    extract = extractor(none, CPU)
    real, others = real_statistics(photographs(200), extract), photographs(200, "train")
    between_real = real.distance(statistics(extract(others)[0]))
    assert real.distance(statistics(extract(blurred(others))[0])) > 10 * between_real
    assert real.distance(statistics(extract(blurred(others, 2))[0])) > 3 * between_real


def test_blur_stands_clearly_above_real_against_real_on_scenes(none):
    drawn, extract = scenes(400), extractor(none, CPU)
    real, others = real_statistics(drawn[:200], extract), drawn[200:]
    between_real = real.distance(statistics(extract(others)[0]))
    assert real.distance(statistics(extract(blurred(others))[0])) > 4 * between_real
    assert real.floor["frechet_distance"] < 4 * between_real  # the halves are half as many pictures


def test_trained_features_name_themselves(tmp_path, shared, photographs):
    folder = weights_folder(tmp_path / "squeezenet", shared(SQUEEZENET), "squeezenet")
    extract = extractor(folder, CPU)
    pictures = photographs(8)
    real = real_statistics(pictures, extract)
    figures = real.fidelity(statistics(extract(blurred(pictures))[0]), extract)
    assert {key for key in figures if "floor" not in key and "std" not in key} == {
        "fd_squeezenet", "kid_squeezenet", "precision_squeezenet", "recall_squeezenet"
    }  # fmt: skip
    assert figures["fd_squeezenet"] > 1
    assert extract.about["features_sha256"] == hashlib.sha256(shared(SQUEEZENET).read_bytes()).hexdigest()


def test_a_reference_comes_back_from_disk_as_it_was(tmp_path, none):
    pictures = torch.randint(0, 256, (24, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    extract = extractor(none, CPU)
    real = real_statistics(pictures, extract)
    tmp_path.joinpath("r").mkdir()
    real.save(tmp_path / "r", {"split": "test"})
    write_manifest(tmp_path / "r")
    back = RealStatistics.load(tmp_path / "r", extract)
    other = statistics(extract(pictures.flip(0)[:12])[0])
    assert back.distance(other) == real.distance(other)
    assert back.floor == pytest.approx(real.floor, rel=1e-5)


@pytest.fixture(scope="module")
def local_inception(tmp_path_factory) -> Path:
    """A state dict of torch-fidelity's Inception (566 keys), drawn at random: its loading path without its file."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    folder = tmp_path_factory.mktemp("inception")

    class Unloaded(FeatureExtractorInceptionV3):
        def load_state_dict(self, state, **_):
            return None

    torch.save({}, folder / "empty.pth")
    torch.manual_seed(0)
    network = Unloaded("inception", ["2048"], feature_extractor_weights_path=str(folder / "empty.pth"))
    state = network.state_dict()
    assert len(state) == 566
    torch.save(state, folder / "file.pth")
    return weights_folder(folder / "inception", folder / "file.pth", "inception")


def test_inception_loads_and_has_its_published_names_only_with_the_published_file(local_inception, monkeypatch):
    pictures = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    extract = extractor(local_inception, CPU)
    features, logits = extract(pictures)
    assert (features.shape, logits.shape) == ((2, 2048), (2, 1008))
    assert (extract.key("fd"), extract.key("is")) == ("fd_inception_unpublished", "is_inception_unpublished")
    monkeypatch.setitem(PUBLISHED, "inception", extract.about["features_sha256"])
    named = extractor(local_inception, CPU)
    assert [named.key(figure) for figure in ("fd", "is", "kid", "precision", "recall")] == [
        "fid", "is", "kid", "precision", "recall"
    ]  # fmt: skip


def test_inception_of_other_content_is_refused(tmp_path):
    torch.save({"weight": torch.zeros(1)}, tmp_path / "file.pth")
    folder = weights_folder(tmp_path / "inception", tmp_path / "file.pth", "inception")
    with pytest.raises(ValueError, match="does not fit kind inception") as caught:
        extractor(folder, CPU)
    assert "\n" not in str(caught.value)


@pytest.fixture
def pictures(request) -> torch.Tensor:
    """18 drawn scenes; every third a photograph where there are any."""
    found = scenes(18)
    if (SHARED / "cifar10").is_dir():
        found[::3] = request.getfixturevalue("photographs")(6)
    return found


def test_vgg16_is_torch_fidelitys_own_and_named_so(pictures, tmp_path, monkeypatch):
    """Its loading path, on a state dict drawn here (a tensor of one number costs no space), and its figures."""
    import torchvision
    from torch_fidelity.feature_extractor_vgg16 import FeatureExtractorVGG16

    with torch.device("meta"):
        shapes = {name: value.shape for name, value in torchvision.models.vgg16().state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    state = {
        name: (shape[-1] ** 0.5 / 64 * torch.randn(shape[:1], generator=generator))[(...,) + (None,) * (len(shape) - 1)]
        .abs()
        .expand(shape)
        if name.startswith("classifier") or name.endswith("bias")
        else torch.randn(shape, generator=generator) * (2 / shape[1:].numel()) ** 0.5
        for name, shape in shapes.items()
    }
    torch.save(state, tmp_path / "file.pth")
    folder = weights_folder(tmp_path / "vgg16", tmp_path / "file.pth", "vgg16")
    before = torch.get_rng_state()
    extract = extractor(folder, CPU)
    assert torch.get_rng_state().equal(before)
    assert extract.key("precision") == "precision_vgg16_unpublished"
    one, other = blurred(pictures[::2], 4), pictures[1::2]
    assert extract(one)[0].shape == (9, 4096)
    assert isinstance(extract.network, FeatureExtractorVGG16)
    theirs = prc_features_to_metric(*(extract.network(each)[0] for each in (one, other)), verbose=False)
    assert 0 < theirs["precision"] < 1
    monkeypatch.setattr("ldm.evaluation.statistics.frechet", lambda a, b: 0.0)  # minutes, of 4096 features
    real, samples = real_statistics(other, extract), statistics(extract(one)[0])
    ours = real.fidelity(samples, extract)
    assert ours["precision_vgg16_unpublished"] == pytest.approx(theirs["precision"], abs=1e-6)
    assert ours["recall_vgg16_unpublished"] == pytest.approx(theirs["recall"], abs=1e-6)
    assert "fd_vgg16_unpublished" not in real.intervals(samples, ours, extract)


def drawn_features(count: int, d: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(d, d, generator=generator) / d**0.5
    one, other = (torch.randn(count, d, generator=generator) for _ in range(2))
    return (one @ mix).relu(), (1.2 * other @ mix + 0.1).relu()


@pytest.fixture(params=["drawn", "resnet", "squeezenet"])
def compared(request, tmp_path) -> tuple[torch.Tensor, torch.Tensor, Extractor]:
    """Two sets of features: drawn ones anywhere; of photographs and of blurred ones where there are any."""
    plain = Extractor(
        name="plain", network=RandomConvolutions("plain", ["features"]), standardise=False, about={"features": "plain"}
    )
    if request.param == "drawn":
        return *drawn_features(200), plain
    files = {"resnet": RESNET, "squeezenet": SQUEEZENET}
    kinds = {"resnet": "cifar_resnet56", "squeezenet": "squeezenet"}
    photographs, shared = (request.getfixturevalue(name) for name in ("photographs", "shared"))
    count = {"resnet": 200, "squeezenet": 60}[request.param]  # more than its 64 features; fewer than its 512
    folder = weights_folder(tmp_path / "w", shared(files[request.param]), kinds[request.param])
    extract = extractor(folder, CPU)
    return extract(photographs(count))[0], extract(blurred(photographs(count, "train"), 2))[0], extract


def test_agrees_with_scipys_root_fewer_pictures_than_features_included(compared):
    for a, b in (compared[:2], (compared[0][:40], compared[1][:40])):
        first, second = statistics(a).gaussian(), statistics(b).gaussian()
        root = sqrtm(first.covariance.numpy() @ second.covariance.numpy()).real
        expected = (first.mean - second.mean).square().sum() + (
            first.covariance + second.covariance - 2 * torch.from_numpy(root)
        ).trace()
        assert frechet(first, second) == pytest.approx(expected.item(), rel=1e-3)


def test_agrees_with_torchmetrics_formulae_on_real_features(compared):
    from torchmetrics.image.fid import _compute_fid
    from torchmetrics.image.kid import poly_mmd

    real, other, extract = compared
    for a, b in ((real, other), (real[:40], other[:40])):
        found = RealStatistics.of(statistics(a), (statistics(a[::2]), statistics(a[1::2])), extract)
        ours = found.fidelity(statistics(b), extract)
        g, h = statistics(a).gaussian(), statistics(b).gaussian()
        theirs = _compute_fid(g.mean, g.covariance, h.mean, h.covariance).item()
        assert ours[extract.key("fd")] == pytest.approx(theirs, rel=1e-3)
        assert ours[extract.key("kid")] == pytest.approx(poly_mmd(a.double(), b.double()).item(), rel=1e-3)


def test_precision_and_recall_are_the_adm_evaluators(compared):
    """Its definition, in plain words: within the distance to the third other of any of the other set."""
    real, other, extract = compared
    a, b = real.double(), other.double()
    apart = {pair: (x[:, None] - y[None]).norm(dim=2) for pair, (x, y) in {"aa": (a, a), "bb": (b, b)}.items()}
    across = (b[:, None] - a[None]).norm(dim=2)
    reach_a, reach_b = (apart[pair].sort(1).values[:, 3] for pair in ("aa", "bb"))
    found = RealStatistics.of(statistics(real), (statistics(real[::2]), statistics(real[1::2])), extract)
    ours = found.fidelity(statistics(other), extract)
    assert ours[extract.key("precision")] == pytest.approx((across <= reach_a).any(1).double().mean().item(), abs=1e-6)
    assert ours[extract.key("recall")] == pytest.approx((reach_b >= across.T).any(1).double().mean().item(), abs=1e-6)


class Classes(torch.nn.Module):
    """Logits of pictures: a CIFAR ResNet's ten; without its weights, what untrained convolutions see of 102 things."""

    def __init__(self, weights: Path | None) -> None:
        super().__init__()
        self.resnet = weights and CifarResNet56().eval()
        if weights:
            state = torch.load(weights, map_location="cpu", weights_only=True)["state_dict"]
            self.resnet.load_state_dict({name.removeprefix("module."): of for name, of in state.items()})

    @torch.no_grad()
    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        if not self.resnet:
            return 20 * RandomConvolutions("random_conv", ["features"])(pixels)[0]
        mean, std = (torch.tensor(of).view(3, 1, 1) for of in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
        x, net = (pixels / 255 - mean) / std, self.resnet
        x = net.layer3(net.layer2(net.layer1(net.bn1(net.conv1(x)).relu())))
        return net.linear(x.mean((2, 3)))


@pytest.mark.parametrize("kind", ["drawn", "photographs"])
def test_the_streamed_inception_score_is_torchmetrics(kind, request):
    """On pictures, part by part: theirs shuffles before it makes parts."""
    from torchmetrics.image.inception import InceptionScore as Theirs

    if kind == "drawn":
        network, real = Classes(None), scenes(120)
    else:
        network = Classes(request.getfixturevalue("shared")(RESNET))
        real = request.getfixturevalue("photographs")(120)
    score = InceptionScore()
    for part in real.split(50):
        score.add(network(part))
    member, theirs = splits(0, len(real)), []
    for part in range(SPLITS):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            of_part = Theirs(feature=network, splits=1)
            of_part.update(real[member == part])
            theirs.append(of_part.compute()[0].item())
    assert min(theirs) > 1.5, "pictures of several classes"
    assert score.scores().tolist() == pytest.approx(theirs, rel=1e-3)


def test_a_reference_measures_train_against_held_out_at_equal_counts(run, scenes, none, tmp_path):
    for split, other in (("test", "train"), ("train", "test")):
        section = Reference(dataset="scenes", split=split, features="none", batch=16)
        steps = list(reference(section, run, scenes, none, tmp_path / split))
        assert steps[-1].done == steps[-1].total == 48
        about = read_json(tmp_path / split / "reference.json")
        assert (about["train"]["split"], about["train"]["count"]) == (other, 24)
        extract = extractor(none, CPU)
        real = RealStatistics.load(tmp_path / split, extract)
        images = Images(scenes, other)
        of_others, _ = extract(images.batch(torch.arange(24)))
        assert real.distance(statistics(of_others)) == pytest.approx(about["train"]["frechet_distance"], rel=1e-4)
        figures = real.fidelity(statistics(of_others), extract)
        assert figures["fd_random_conv_train"] == about["train"]["frechet_distance"]
        assert figures["kid_random_conv_train"] == about["train"]["kernel_distance"]
        assert figures["kid_random_conv_floor"] == about["floor"]["kernel_distance"]


def test_intervals_are_about_the_figures(none):
    pictures = torch.randint(0, 256, (60, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    extract = extractor(none, CPU)
    real, samples = real_statistics(pictures[:30], extract), statistics(extract(pictures[30:])[0])
    figures = real.fidelity(samples, extract)
    intervals = real.intervals(samples, figures, extract)
    assert set(intervals) == {f"{name}_random_conv" for name in ("fd", "kid", "precision", "recall")}
    assert all(low <= figures[key] <= high for key, (low, high) in intervals.items())
    assert intervals == real.intervals(samples, figures, extract)
