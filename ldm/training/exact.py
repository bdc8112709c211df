"""Make a process compute the same bytes each time, as far as its device can."""

import os
from contextlib import AbstractContextManager
from typing import TypeVar

import torch
from torch import nn

from ldm.config import Run

M = TypeVar("M", bound=nn.Module)


def setup(run: Run) -> torch.device:
    """Apply `run` to this process and return its device.

    The CPU's instruction set cannot be capped here: it is fixed when torch loads, so flows do it before.
    """
    if run.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("params.yaml: run.device: cuda, but torch finds no GPU here; set it to cpu")
    exact = run.mode == "exact"
    torch.set_num_threads(run.threads)
    # Subnormals make CPU convolutions several times slower and carry nothing a picture shows.
    torch.set_flush_denormal(True)
    torch.use_deterministic_algorithms(exact)
    # To fill what torch leaves uninitialised costs a pass over every new tensor; here all is written before it is read.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = not exact
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
    if exact:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    return torch.device(run.device)


def precision(run: Run) -> AbstractContextManager[object]:
    """Within it, convolutions and products on a GPU are of `run.precision`; what is summed or normalised is float32."""
    half = run.precision == "bfloat16"
    return torch.autocast("cuda", torch.bfloat16, enabled=half, cache_enabled=False)


def placed(model: M, device: torch.device) -> M:
    """`model` on `device`; on a GPU its weights lie channels last, as matrix units take them."""
    model = model.to(device)
    return model.to(memory_format=torch.channels_last) if device.type == "cuda" else model  # type: ignore[call-overload]
