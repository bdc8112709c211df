"""Feature extractors for figures of fidelity, in torch-fidelity's shape: uint8 pictures in, one vector a picture out.

Each names its figures: `fid`, `is`, `kid`, `precision`, `recall` belong to the published Inception weights alone, and
every other extractor puts its own name into the key.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

import ldm.nn.vision  # makes torchvision importable, which torch_fidelity imports

# isort: split
from torch_fidelity import FeatureExtractorBase, register_feature_extractor
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.feature_extractor_vgg16 import FeatureExtractorVGG16

from ldm.data.pictures import to_float
from ldm.nn.weights import PUBLISHED, Weights, weights

FEATURES = "features"
FAINT = 0.01
"""Added before the logarithm: below about one of 255 grey levels nothing is told apart."""


class _Extractor(FeatureExtractorBase):
    """One feature layer, used for every figure."""

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        return (FEATURES,)

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:
        return FEATURES

    @staticmethod
    def can_be_compiled() -> bool:
        return False

    @staticmethod
    def get_dummy_input_for_compile() -> Tensor:
        return torch.zeros(1, 3, 32, 32, dtype=torch.uint8)


class RandomConvolutions(_Extractor):
    """Mean and standard deviation over the picture of its colours and of three layers of untrained convolutions.

    The convolutions (3x3, ReLU, halving between layers; first filters of zero mean, that is, edges) are drawn from a
    fixed seed. They know nothing of objects: a small distance says that colours, contrast and texture at scales up to
    about 20 pixels agree. The layers' statistics are logarithms, so that blur, which scales them, shifts pictures of
    little and of much contrast alike: with 300 pictures, bicubically reduced and enlarged by 4, the distance is 34
    times that between real ones on photographs and 8 times on drawn scenes; without the logarithm 16 and 4.5 times.
    102 numbers; for pictures from 8 pixels.
    """

    WIDTHS = (16, 16, 16)

    def __init__(self, name: str, features_list: list[str], **_: Any) -> None:
        super().__init__(name, features_list)
        generator = torch.Generator().manual_seed(0)
        channels = 3
        for layer, width in enumerate(self.WIDTHS):
            kernel = torch.randn(width, channels, 3, 3, generator=generator)
            if layer == 0:
                kernel -= kernel.mean((1, 2, 3), keepdim=True)
            kernel *= 2**0.5 / kernel.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
            self.register_buffer(f"kernel_{layer}", kernel)
            channels = width

    def forward(self, pixels: UInt8[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "b d"]]:
        x = to_float(pixels)
        parts = [x.mean((2, 3)), x.std((2, 3))]
        for layer in range(len(self.WIDTHS)):
            if layer:
                x = F.avg_pool2d(x, 2)
            x = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), self.get_buffer(f"kernel_{layer}")).relu()
            parts += [(x.mean((2, 3)) + FAINT).log(), (x.std((2, 3)) + FAINT).log()]
        return (torch.cat(parts, dim=1),)


class TrunkFeatures(_Extractor):
    """The deepest layer of a frozen trained network, averaged over the picture, at the size the network was trained on.

    `feature_extractor_weights_path` is a folder of data/weights, not a file.
    """

    def __init__(self, name: str, features_list: list[str], feature_extractor_weights_path: Path, **_: Any) -> None:
        super().__init__(name, features_list)
        found = weights(Path(feature_extractor_weights_path))
        if found is None:
            raise ValueError(f"{feature_extractor_weights_path}: trunk features need weights")
        self.trunk = ldm.nn.vision.trunk(found)

    def forward(self, pixels: UInt8[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "b d"]]:
        size = (self.trunk.size, self.trunk.size)
        image = F.interpolate(to_float(pixels), size, mode="bilinear", antialias=True, align_corners=False)
        return (self.trunk(image)[-1].mean((2, 3)),)


RANDOM_CONV = "random_conv"
register_feature_extractor(RANDOM_CONV, RandomConvolutions)
register_feature_extractor("trunk", TrunkFeatures)


@dataclass(frozen=True, kw_only=True)
class Extractor:
    """Features of pictures, and the honest names of figures on them."""

    name: str
    """In the key of every figure; empty for the published Inception weights, whose figures have names of their own."""
    network: FeatureExtractorBase
    standardise: bool
    """Whether figures are taken on features brought to unit variance over the reference: needed where untrained
    features differ in scale. (Decorrelating them as well was tried: with a few hundred photographs it amplifies
    directions that are noise, and blur then stands 6 times above real against real, not 34.)"""
    about: dict[str, str]

    @torch.no_grad()
    def __call__(self, pixels: UInt8[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b k"] | None]:
        """Features, and logits where the network has them, on the CPU."""
        features, *logits = self.network(pixels)
        return features.float().cpu(), logits[0].float().cpu() if logits else None

    def key(self, figure: str) -> str:
        """The key of `figure`, one of fd, kid, is, precision, recall."""
        if self.name:
            return f"{figure}_{self.name}"
        return "fid" if figure == "fd" else figure


def extractor(folder: Path, device: torch.device) -> Extractor:
    """The features of the weights in `folder` (`none`: random convolutions). Raises ValueError for unusable weights."""
    found = weights(folder)
    if found is None:
        network: FeatureExtractorBase = RandomConvolutions(RANDOM_CONV, [FEATURES])
        about = {"features": RANDOM_CONV}
        return Extractor(name=RANDOM_CONV, network=network.to(device), standardise=True, about=about)
    about = {"features": found.kind, "features_sha256": found.sha256, "features_source": found.source}
    name = found.kind if found.published or found.kind not in PUBLISHED else f"{found.kind}_unpublished"
    if found.kind == "inception" and found.published:
        name = ""
    return Extractor(name=name, network=_network(found, folder).to(device).eval(), standardise=False, about=about)


def _network(found: Weights, folder: Path) -> FeatureExtractorBase:
    if found.kind not in _FIDELITY:
        return TrunkFeatures("trunk", [FEATURES], folder)
    network, layers = _FIDELITY[found.kind]
    found.state_dict()  # torch-fidelity unpickles the file: first make sure that it holds nothing but tensors
    try:
        with torch.random.fork_rng([]):  # it draws weights before it reads them
            return network(found.kind, layers, feature_extractor_weights_path=str(found.path))
    except RuntimeError as error:
        raise found.misfit(error) from None


_FIDELITY: dict[str, tuple[Callable[..., FeatureExtractorBase], list[str]]] = {
    "inception": (FeatureExtractorInceptionV3, ["2048", "logits_unbiased"]),
    "vgg16": (FeatureExtractorVGG16, ["fc2_relu"]),
}
"""torch-fidelity's own networks, each with the layers that it takes figures on."""
