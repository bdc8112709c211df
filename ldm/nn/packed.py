"""Convolutions for evaluation on a CPU, whose weights lie as oneDNN's kernels read them.

A plain convolution has them brought into that order at every call, which at small sizes takes as long as its sums.
Pictures then lie channels last. Sums run in another order, so that results differ from the plain layer's in the last
digits, and not from each other.
"""

from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


class PackedConv2d(nn.Conv2d):
    """A frozen convolution. Where a gradient is asked for it is the plain one."""

    def __init__(self, plain: nn.Conv2d) -> None:
        sizes = plain.in_channels, plain.out_channels, plain.kernel_size, plain.stride, plain.padding, plain.dilation
        super().__init__(*sizes, plain.groups, device="meta")  # type: ignore[arg-type]
        self.weight, self.bias = plain.weight, plain.bias
        self._how = [*plain.padding], [*plain.stride], [*plain.dilation], plain.groups
        self._packed: Tensor | None = None
        self._for = torch.Size()
        """The shape of what they are packed for."""

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b out h2 w2"]:
        if torch.is_grad_enabled() and x.requires_grad:
            return super().forward(x)
        if x.shape != self._for:  # each size has its kernel, and each kernel its order; so no size before matters
            weight = self.weight.detach()
            self._packed = torch.ops.mkldnn._reorder_convolution_weight(weight, *self._how, [*x.shape])
            self._for = x.shape
        convolve = torch.ops.mkldnn._convolution_pointwise
        found: Tensor = convolve(x, self._packed, self.bias, *self._how, "none", [], "")  # with no activation after it
        return found


def packed(model: M) -> M:
    """`model`, frozen, with its convolutions packed where it is on a CPU that has oneDNN; else as it is."""
    if torch.backends.mkldnn.is_available():
        for layer in [*model.modules()]:
            for name, conv in layer.named_children():
                if type(conv) is nn.Conv2d and conv.weight.device.type == "cpu":
                    setattr(layer, name, PackedConv2d(conv))
    return model
