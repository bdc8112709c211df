"""What a GPU would hold, counted without one: operations run on torch's meta device, whose tensors have no numbers."""

import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from types import SimpleNamespace
from typing import Any, TypeVar
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.checkpoint import checkpoint

from ldm.nn import fused
from ldm.training.config import Training
from ldm.unet import model as unet

ROUNDED = 512
"""The CUDA allocator hands out multiples of so many bytes."""
M = TypeVar("M", bound=nn.Module)
T = TypeVar("T")


class Counted(TorchDispatchMode):
    """A machine that counts the bytes of every tensor from its birth to its death, in pools as CUDA graphs have them.

    `gpu`: in bfloat16, channels last, with fused norms and attention; else plain layers in float32, as on a CPU.
    """

    device = torch.device("meta")
    CHANNELS_LAST = (torch.ops.aten.convolution.default, torch.ops.aten.convolution_backward.default)
    """What they make lies so on a GPU."""

    def __init__(self, *, gpu: bool) -> None:
        super().__init__()
        self.gpu = gpu
        self.peaks: Counter[str] = Counter()
        """The most that each pool held, by its function's name; "" is what lies in none."""
        self._now: Counter[str] = Counter()
        self._pool = ""
        self._born: set[int] = set()

    @property
    def held(self) -> int:
        """Bytes of the tensors that are alive."""
        return sum(self._now.values())

    @property
    def reserved(self) -> int:
        """Bytes of all pools: none gives back what another could use."""
        return sum(self.peaks.values())

    @contextmanager
    def counting(self) -> Iterator["Counted"]:
        """All that is made within is counted."""
        with ExitStack() as stack:
            if self.gpu:
                stack.enter_context(_kernels_left_out())
                stack.enter_context(patch.object(unet, "checkpoint", _checkpoint))
                stack.enter_context(_AsOnAGPU())
            stack.enter_context(self)
            yield self

    def placed(self, model: M) -> M:
        model = model.to(self.device)
        return model.to(memory_format=torch.channels_last) if self.gpu else model  # type: ignore[call-overload]

    def precision(self) -> AbstractContextManager[object]:
        return nullcontext()  # `counting` has it about the whole step

    def graphed(self, function: Callable[..., T], name: str) -> Callable[..., T]:
        """`function`, what it makes in a pool of its own."""

        def call(**inputs: Tensor) -> T:
            self._pool = name
            try:
                return function(**inputs)
            finally:
                self._pool = ""

        return call

    def update(self, optimiser: torch.optim.Optimizer, config: Training) -> None:
        """The moments of a fused Adam, which needs nothing else."""
        for group in optimiser.param_groups:
            for p in group["params"]:
                if p.grad is not None and p not in optimiser.state:
                    optimiser.state[p] = {name: torch.zeros_like(p) for name in ("exp_avg", "exp_avg_sq")}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if func in self.CHANNELS_LAST:
            made = tree_map_only(Tensor, _channels_last, made)
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor) and tensor.device == self.device:
                self._count(tensor.untyped_storage())
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._born:
            return
        size = -(-storage.nbytes() // ROUNDED) * ROUNDED
        self._born.add(key)
        self._now[self._pool] += size
        self.peaks[self._pool] = max(self.peaks[self._pool], self._now[self._pool])
        weakref.finalize(storage, self._freed, key, self._pool, size)

    def _freed(self, key: int, pool: str, size: int) -> None:
        self._born.remove(key)
        self._now[pool] -= size


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


class _AsOnAGPU(TorchFunctionMode):
    """The types that `torch.autocast("cuda", torch.bfloat16)` gives, which itself passes by tensors of the meta device.

    Attention never holds its weights, and dropout a byte for each element.
    """

    HALVED = (F.conv2d, F.linear, torch.addmm, F.scaled_dot_product_attention)
    WHOLE = (F.layer_norm, F.group_norm, F.softplus, torch.Tensor.exp, torch.Tensor.norm, torch.Tensor.pow)
    SUMS = (torch.sum, torch.Tensor.sum)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in self.HALVED:
            args = tree_map_only(Tensor, lambda x: x.to(torch.bfloat16), args)
        elif func in self.WHOLE:
            args = tree_map_only(Tensor, lambda x: x.float() if x.is_floating_point() else x, args)
        elif func in self.SUMS and args[0].is_floating_point():
            kwargs = {"dtype": torch.float32} | kwargs
        if func is F.conv2d:
            return func(_channels_last(args[0]), *args[1:], **kwargs)
        if func is F.scaled_dot_product_attention:
            attended, *_ = torch.ops.aten._scaled_dot_product_efficient_attention(*args, None, True)
            return attended
        if func is F.dropout:
            return _dropout(*args, **kwargs)
        return func(*args, **kwargs)


def _dropout(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    return torch.native_dropout(x, p, True)[0] if training and p else x


_checkpoint = partial(checkpoint, context_fn=lambda: (nullcontext(), _AsOnAGPU()))
"""Modes end where torch goes backward, so the layers that run again there need their own."""


class _LeftOut:
    """A Triton kernel that is not launched."""

    def __getitem__(self, grid: Any) -> Callable[..., None]:
        return lambda *args, **kwargs: None


def _usable(x: Tensor) -> bool:
    assert x.is_contiguous(memory_format=torch.channels_last), "every map that is normalised lies so on a GPU"
    return True


def _kernels_left_out() -> AbstractContextManager[Any]:
    """ldm/nn/fused.py as it is, but for its kernels: it allocates and keeps what it does on a GPU."""
    rounding = SimpleNamespace(cdiv=lambda a, b: -(-a // b), next_power_of_2=lambda n: 1 << (n - 1).bit_length())
    kernels = ("_sums", "_statistics", "_apply", "_gradient_sums", "_gradient_statistics", "_gradient", "_add")
    changed: dict[str, Any] = {name: _LeftOut() for name in kernels} | {"triton": rounding, "usable": _usable}
    return patch.multiple(fused, create=True, **changed)
