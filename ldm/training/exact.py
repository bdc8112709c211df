"""Make a process compute the same bytes each time, as far as its device can."""

import os

import torch

from ldm.config import Run


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
    torch.backends.cudnn.benchmark = not exact
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
    if exact:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    return torch.device(run.device)
