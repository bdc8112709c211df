"""PSNR and SSIM against scikit-image and torchmetrics, on real photographs; equal pictures; blur."""

import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from ldm.data.pictures import low_resolution, psnr, resize
from ldm.evaluation.reconstruction import PerceptualDistance, enlarge, ssim


@pytest.fixture(scope="module")
def pair(photographs):
    """Real photographs and blurred copies."""
    sharp = photographs(16)
    return sharp, torch.stack([enlarge(low_resolution(p, 4), like=p) for p in sharp])


def test_psnr_agrees_with_scikit_image(pair):
    expected = [peak_signal_noise_ratio(a.numpy(), b.numpy(), data_range=255) for a, b in zip(*pair, strict=True)]
    torch.testing.assert_close(psnr(*pair), torch.tensor(expected).double(), rtol=1e-6, atol=0)


def test_ssim_agrees_with_scikit_image(pair):
    options = {
        "gaussian_weights": True,
        "sigma": 1.5,
        "use_sample_covariance": False,
        "data_range": 255,
        "channel_axis": 0,
    }
    expected = [structural_similarity(a.numpy(), b.numpy(), **options) for a, b in zip(*pair, strict=True)]
    torch.testing.assert_close(ssim(*pair), torch.tensor(expected).double(), rtol=0, atol=1e-3)


def test_ssim_agrees_with_torchmetrics(pair):
    # it imports torchvision, which ldm.nn.vision (imported above) makes possible
    from torchmetrics.functional.image import structural_similarity_index_measure

    a, b = (pictures.double() for pictures in pair)
    options = {"data_range": 255.0, "reduction": "none", "return_full_image": True}
    _, everywhere = structural_similarity_index_measure(a, b, **options)
    inside = everywhere[:, :, 5:-5, 5:-5].mean((1, 2, 3))  # its own mean also counts windows on mirrored borders
    torch.testing.assert_close(ssim(*pair), inside, rtol=0, atol=1e-3)


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
