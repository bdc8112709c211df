"""A training step, or an evaluation of a network, as one CUDA graph: launched once instead of kernel by kernel."""

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

T = TypeVar("T")

WARM_UP = 3
"""Calls before the capture, in which libraries choose their algorithms and Triton compiles."""


def graphed(function: Callable[..., T], device: torch.device) -> Callable[..., T]:
    """`function` as a `Graphed` on a GPU, as it is on a CPU."""
    return Graphed(function) if device.type == "cuda" else function


class Graphed(Generic[T]):
    """`function` of named tensors, captured at the first call and replayed from then on.

    It must do the same work on the same shapes each time, and draw from the global generator only; whoever calls seeds
    it as before a plain call, and gets the same numbers. What it returns is overwritten by the next call.
    """

    def __init__(self, function: Callable[..., T]) -> None:
        self._function = function
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, **inputs: Tensor) -> T:
        if self._graph is None:
            self._capture(inputs)
        for name, tensor in inputs.items():
            self._inputs[name].copy_(tensor, non_blocking=True)
        assert self._graph is not None
        self._graph.replay()
        return self._outputs

    def _capture(self, inputs: dict[str, Tensor]) -> None:
        self._inputs = {name: tensor.clone() for name, tensor in inputs.items()}
        state = torch.cuda.get_rng_state()
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP):
                self._function(**self._inputs)
        torch.cuda.current_stream().wait_stream(aside)
        self._graph = torch.cuda.CUDAGraph()
        # Beside other processes NCCL's watchdog asks for events meanwhile, from a thread of its own.
        errors = "thread_local" if torch.distributed.is_initialized() else "global"
        with torch.cuda.graph(self._graph, capture_error_mode=errors):
            self._outputs = self._function(**self._inputs)
        torch.cuda.set_rng_state(state)
        del self._function  # and with it what it holds


KEPT = 4
"""Graphs of a network, one for each set of shapes."""
_GRAPHS: WeakKeyDictionary[nn.Module, dict[Any, Graphed[Tensor]]] = WeakKeyDictionary()


def replayed(
    network: nn.Module, evaluate: Callable[..., Tensor], device: torch.device, inputs: Mapping[str, Tensor | None]
) -> Tensor:
    """What `evaluate`, of the weights of `network`, gives for the `inputs` that are not None.

    On a GPU, where no gradient is wanted, by a graph that is kept for the next inputs of these shapes.
    """
    given = {name: tensor for name, tensor in inputs.items() if tensor is not None}
    if device.type != "cuda" or torch.is_grad_enabled():
        return evaluate(**given)
    graphs = _GRAPHS.setdefault(network, {})
    key = tuple((name, tensor.shape, tensor.dtype) for name, tensor in given.items())
    if key not in graphs and len(graphs) == KEPT:
        graphs.clear()
    return graphs.setdefault(key, Graphed(evaluate))(**given).clone()
