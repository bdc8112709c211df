"""Frozen foreign networks: layered features, perceptual distances, and torchvision beside a CPU torch.

Importing this module is what makes `import torchvision` (and lpips and torch-fidelity, which import it) work beside a
torch built for CPUs: import it first. torchvision and lpips themselves cost seconds; they are imported only when a
network is built.
"""

import importlib.util
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ldm.files import sha256
from ldm.nn.weights import Weights, weights


def _complete_torchvision() -> torch.library.Library | None:
    """Define the two operators that torchvision's Python code names at import, where its compiled part does not load.

    The wheel on PyPI is a CUDA build: beside a CPU torch its library raises OSError, and `import torchvision` then
    fails with `operator torchvision::nms does not exist`. Models and transforms need neither; `ops.nms` stays unusable.
    """
    spec = importlib.util.find_spec("torchvision")
    if "torchvision" in sys.modules or spec is None or not spec.submodule_search_locations:
        return None
    try:
        for compiled in Path(spec.submodule_search_locations[0]).glob("_C.*"):
            torch.ops.load_library(str(compiled))
        return None
    except OSError:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return library


_OPERATORS = _complete_torchvision()  # the operators live as long as this object


class Trunk(nn.Module):
    """A frozen convolutional network that returns its features at several depths.

    `name` is its kind, `size` the side of the images it was trained on, `channels` the width of each returned layer;
    with `bgr` it takes blue first (mean and std are still given as red, green, blue).
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: str,
        slices: Sequence[nn.Module],
        *,
        mean: Sequence[float],
        std: Sequence[float],
        size: int,
        channels: Sequence[int],
        bgr: bool = False,
    ) -> None:
        super().__init__()
        self.name, self.size, self.channels, self.bgr = name, size, tuple(channels), bgr
        self.slices = nn.ModuleList(slices)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))
        self.eval().requires_grad_(False)

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> list[Float[Tensor, "b _ _ _"]]:
        """Feature maps, shallow to deep, of pixels in [-1, 1] at the size they come in."""
        x = ((image + 1) / 2 - self.mean) / self.std
        x = x.flip(1) if self.bgr else x
        layers = []
        for part in self.slices:
            x = part(x)
            layers.append(x)
        return layers


def trunk(found: Weights) -> Trunk:
    """The network of `found`, frozen, with its weights. Raises ValueError for weights of another network."""
    if found.kind not in _TRUNKS:
        raise ValueError(f"{found.path}: kind {found.kind} gives no layered features; known: {', '.join(_TRUNKS)}")
    return _TRUNKS[found.kind](found)


class CifarResNet56(nn.Module):
    """ResNet-56 for 32x32 pictures, with the parameter-free shortcuts (A) of He et al. 2015, section 4.2."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(*(_Residual(16, 16) for _ in range(9)))
        self.layer2 = nn.Sequential(*(_Residual(16 if i == 0 else 32, 32) for i in range(9)))
        self.layer3 = nn.Sequential(*(_Residual(32 if i == 0 else 64, 64) for i in range(9)))
        self.linear = nn.Linear(64, 10)


class _Residual(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.stride, self.more = (1 if before == after else 2), (after - before) // 2
        self.conv1 = nn.Conv2d(before, after, 3, stride=self.stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.more, self.more))
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + shortcut)


_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def _cifar_resnet56(found: Weights) -> Trunk:
    net = _built(CifarResNet56, found)
    slices = [nn.Sequential(net.conv1, net.bn1, nn.ReLU(), net.layer1), net.layer2, net.layer3]
    return Trunk(found.kind, slices, mean=_IMAGENET_MEAN, std=_IMAGENET_STD, size=32, channels=(16, 32, 64))


def _squeezenet(found: Weights) -> Trunk:
    """SqueezeNet 1.0 as trained in Caffe: BGR in [0, 255] minus a mean, conv1 without padding."""
    from torchvision.models import squeezenet1_0

    slices = _cut(_built(squeezenet1_0, found).features, (2, 6, 11, 13))
    mean, std = (123 / 255, 117 / 255, 104 / 255), (1 / 255, 1 / 255, 1 / 255)
    return Trunk(found.kind, slices, mean=mean, std=std, size=227, channels=(96, 256, 512, 512), bgr=True)


def _vgg16(found: Weights) -> Trunk:
    from torchvision.models import vgg16

    slices, channels = _cut(_built(vgg16, found).features, (4, 9, 16, 23, 30)), (64, 128, 256, 512, 512)
    return Trunk(found.kind, slices, mean=_IMAGENET_MEAN, std=_IMAGENET_STD, size=224, channels=channels)


def _alexnet(found: Weights) -> Trunk:
    from torchvision.models import alexnet

    slices, channels = _cut(_built(alexnet, found).features, (2, 5, 8, 10, 12)), (64, 192, 384, 256, 256)
    return Trunk(found.kind, slices, mean=_IMAGENET_MEAN, std=_IMAGENET_STD, size=224, channels=channels)


_TRUNKS: dict[str, Callable[[Weights], Trunk]] = {
    "vgg16": _vgg16,
    "alexnet": _alexnet,
    "squeezenet": _squeezenet,
    "cifar_resnet56": _cifar_resnet56,
}


def _built(make: Callable[[], nn.Module], found: Weights) -> Any:
    """The network with the weights of `found`, made without drawing (and throwing away) random ones."""
    with torch.device("meta"):
        net = make()
    state = found.state_dict()
    for key in net.state_dict():  # older files lack this counter, which nothing here reads
        if key.endswith("num_batches_tracked"):
            state.setdefault(key, torch.tensor(0))
    try:
        net.load_state_dict(state, assign=True)
    except RuntimeError as error:
        raise found.misfit(error) from None
    return net


def _cut(layers: nn.Sequential, ends: Sequence[int]) -> list[nn.Module]:
    return [layers[start:end] for start, end in zip((0, *ends), ends, strict=False)]


class Lpips(nn.Module):
    """LPIPS (Zhang et al. 2018, version 0.1 of its heads) on a trunk given as torchvision's state dict; frozen."""

    def __init__(self, name: str, net: Literal["vgg", "alex"], trunk: Mapping[str, Tensor]) -> None:
        super().__init__()
        import lpips

        self.name = name
        with torch.device("meta"), warnings.catch_warnings():  # LPIPS itself would download the trunk
            warnings.simplefilter("ignore")
            self.net = lpips.LPIPS(net=net, pretrained=False, pnet_rand=True, verbose=False)
        path = Path(lpips.__file__).parent / "weights" / "v0.1" / f"{net}.pth"
        self.heads_sha256 = sha256(path)
        heads = torch.load(path, map_location="cpu", weights_only=True)
        state = {}
        for key, value in self.net.state_dict().items():
            part, _, rest = key.partition(".")
            if part == "net":  # sliceN.<index>.weight keeps torchvision's features.<index>
                state[key] = trunk[f"features.{rest.partition('.')[2]}"]
            elif part == "lins":  # the package names each head twice
                state[key] = heads[f"lin{rest}"]
            else:
                state[key] = heads.get(key, value)
        self.net.load_state_dict(state, assign=True)
        self.eval().requires_grad_(False)

    def forward(self, image: Float[Tensor, "b 3 h w"], other: Float[Tensor, "b 3 h w"]) -> Float[Tensor, " b"]:
        """Distance of each pair of pixels in [-1, 1]; 0 for equal ones. Differentiable in both.

        The package's own forward but for `_unit`: there the gradient of a feature that is zero everywhere is no number.
        """
        features = (self.net.net(self.net.scaling_layer(x)) for x in (image, other))
        layers = zip(self.net.lins, *features, strict=True)
        return torch.stack([head((_unit(a) - _unit(b)).square()).mean((1, 2, 3)) for head, a, b in layers]).sum(0)


class FeatureDistance(nn.Module):
    """Mean squared difference of channel-normalised features, summed over a trunk's layers: LPIPS without its heads."""

    def __init__(self, trunk: Trunk) -> None:
        super().__init__()
        self.name, self.trunk = f"features_{trunk.name}", trunk

    def forward(self, image: Float[Tensor, "b 3 h w"], other: Float[Tensor, "b 3 h w"]) -> Float[Tensor, " b"]:
        """Distance of each pair of pixels in [-1, 1]; 0 for equal ones. Differentiable in both."""
        pairs = zip(self.trunk(image), self.trunk(other), strict=True)
        return torch.stack([(_unit(a) - _unit(b)).square().sum(1).mean((1, 2)) for a, b in pairs]).sum(0)


def _unit(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    # the epsilon stands inside the root, where a zero feature would otherwise have an infinite gradient
    return x / (x.square().sum(1, keepdim=True) + 1e-10).sqrt()


def perceptual(folder: Path) -> Lpips | FeatureDistance | None:
    """The frozen, differentiable perceptual distance of the weights in `folder`; None for the folder named `none`.

    Call it with two batches of pixels in [-1, 1] for one distance a pair. Its `name` says what it is: `lpips_vgg` or
    `lpips_alex` with the published trunk (`lpips_vgg_unpublished` with another), `features_squeezenet` and
    `features_cifar_resnet56` where there are no published heads. Raises ValueError of one line for unusable weights.
    """
    found = weights(folder)
    if found is None:
        return None
    if found.kind not in _HEADS:
        return FeatureDistance(trunk(found))
    net = _HEADS[found.kind]
    name = f"lpips_{net}" if found.published else f"lpips_{net}_unpublished"
    try:
        return Lpips(name, net, found.state_dict())
    except (KeyError, RuntimeError) as error:
        raise found.misfit(error) from None


_HEADS: dict[str, Literal["vgg", "alex"]] = {"vgg16": "vgg", "alexnet": "alex"}


def random_trunk_lpips(seed: int = 0) -> Lpips:
    """LPIPS with its published heads on an untrained VGG16, drawn from `seed` as torchvision draws one.

    It needs no weights and does see blur, but it is not LPIPS: its figures are called `lpips_random_trunk`.
    """
    from torchvision.models import vgg16

    with torch.device("meta"):
        shapes = {k: v.shape for k, v in vgg16(weights=None).features.state_dict(prefix="features.").items()}
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for key, shape in shapes.items():  # kaiming_normal_(mode="fan_out") for weights, zero for biases
        scale = (2 / (shape[0] * shape[2] * shape[3])) ** 0.5 if key.endswith("weight") else 0.0
        state[key] = scale * torch.randn(shape, generator=generator)
    return Lpips("lpips_random_trunk", "vgg", state)
