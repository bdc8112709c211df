"""PSNR, SSIM and LPIPS against scikit-image, torchmetrics and lpips, on photographs and drawn scenes; equal; blur."""

import hashlib
import warnings
from pathlib import Path

import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from ldm.data.pictures import from_image, low_resolution, psnr, read, resize, square
from ldm.data.shards import Images
from ldm.evaluation.reconstruction import PerceptualDistance, enlarge, ssim
from ldm.nn.vision import random_trunk_lpips


@pytest.fixture(scope="module", params=["photographs", "large photographs", "drawn"])
def pair(request):
    """Pictures and blurred copies of them."""
    match request.param:
        case "photographs":
            sharp = request.getfixturevalue("photographs")(16)
        case "large photographs":
            sharp = _large(request.getfixturevalue("shared_data"))
        case _:
            images = Images(request.getfixturevalue("scenes"), "test")
            sharp = images.batch(torch.arange(16))
    return sharp, torch.stack([enlarge(low_resolution(p, 4), like=p) for p in sharp])


def _large(shared_data):
    files = sorted((shared_data / "sr" / "bsds500_train").glob("*.jpg"))[:4]
    return torch.stack([from_image(square(read(file.read_bytes()), 128)) for file in files])


def test_psnr_agrees_with_scikit_image(pair):
    expected = [peak_signal_noise_ratio(a.numpy(), b.numpy(), data_range=255) for a, b in zip(*pair, strict=True)]
    torch.testing.assert_close(psnr(*pair), torch.tensor(expected).double(), rtol=1e-6, atol=0)


def test_psnr_agrees_with_torchmetrics(pair):
    from torchmetrics.functional.image import peak_signal_noise_ratio as torchmetrics_psnr

    a, b = (pictures.double() for pictures in pair)
    expected = torchmetrics_psnr(a, b, data_range=255.0, reduction="none", dim=(1, 2, 3))
    torch.testing.assert_close(psnr(*pair), expected, rtol=1e-6, atol=0)


def test_ssim_agrees_with_scikit_image(pair):
    options = {
        "gaussian_weights": True,
        "sigma": 1.5,
        "use_sample_covariance": False,
        "data_range": 255,
        "channel_axis": 0,
    }
    expected = [structural_similarity(a.numpy(), b.numpy(), **options) for a, b in zip(*pair, strict=True)]
    torch.testing.assert_close(ssim(*pair), torch.tensor(expected).double(), rtol=1e-3, atol=0)


def test_ssim_agrees_with_torchmetrics(pair):
    # it imports torchvision, which ldm.nn.vision (imported above) makes possible
    from torchmetrics.functional.image import structural_similarity_index_measure

    a, b = (pictures.double() for pictures in pair)
    options = {"data_range": 255.0, "reduction": "none", "return_full_image": True}
    _, everywhere = structural_similarity_index_measure(a, b, **options)
    inside = everywhere[:, :, 5:-5, 5:-5].mean((1, 2, 3))  # its own mean also counts windows on mirrored borders
    torch.testing.assert_close(ssim(*pair), inside, rtol=1e-3, atol=0)


def test_lpips_agrees_with_the_lpips_package(pair, none):
    """On the package's own untrained trunk and published heads: what differs with weights is the numbers in them."""
    import lpips

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        package = lpips.LPIPS(net="vgg", pnet_rand=True, verbose=False).eval()
    ours = random_trunk_lpips()
    package.net.load_state_dict(ours.net.net.state_dict())
    a, b = (pictures.float() / 127.5 - 1 for pictures in pair)
    with torch.no_grad():
        expected = package(a, b).flatten()
    torch.testing.assert_close(PerceptualDistance(none, torch.device("cpu"))(*pair), expected, rtol=1e-3, atol=0)


def test_equal_pictures():
    picture = torch.arange(3 * 16 * 16).remainder(256).to(torch.uint8).view(1, 3, 16, 16)
    assert ssim(picture, picture).item() == pytest.approx(1, abs=1e-12)


def test_ssim_refuses_pictures_smaller_than_its_window():
    picture = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    with pytest.raises(ValueError, match="at least 11 pixels a side, these have 8"):
        ssim(picture, picture)


def test_random_trunk_lpips_ranks_blur_by_its_strength(none, photographs):
    sharp = photographs(4)
    distance = PerceptualDistance(none, torch.device("cpu"))
    values = []
    for factor in (2, 4, 8):
        blurred = torch.stack([resize(low_resolution(p, factor), 32, 32) for p in sharp])
        values.append(distance(blurred, sharp).mean().item())
    assert 0 < values[0] < values[1] < values[2]
    assert distance.key == distance.about["perceptual"] == "lpips_random_trunk"


def test_what_it_says_of_itself_has_the_hash_of_the_published_heads(none):
    import lpips

    heads = Path(lpips.__file__).parent / "weights" / "v0.1" / "vgg.pth"
    assert PerceptualDistance(none, torch.device("cpu")).about == {
        "perceptual": "lpips_random_trunk",
        "perceptual_heads_sha256": hashlib.sha256(heads.read_bytes()).hexdigest(),
    }
