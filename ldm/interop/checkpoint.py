"""Files of weights that others made: read without running anything in them, and taken apart by name."""

import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from ldm.interop.links import listed


class Unread:
    """Stands for each class in a file but tensors and plain values; its objects become tables that nobody looks into.

    Training frameworks keep callbacks and configurations beside the weights, as objects of classes of their own.
    Nothing of them is run.
    """

    def __new__(cls, *_: Any, **__: Any) -> Any:
        return OrderedDict()  # what a restricted unpickler lets a file put items and attributes into


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Names and tensors of a .safetensors file, or of what `torch.save` wrote, on the CPU; the file is mapped.

    Of a dictionary with a `state_dict`, that one. Raises ValueError of one line for anything else.
    """
    if not path.is_file():
        raise ValueError(f"{path}: not found; name the file of weights itself (a folder's or an archive's model.ckpt)")
    zipped = zipfile.is_zipfile(path)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        unsafe = torch.serialization.get_unsafe_globals_in_checkpoint(path) if zipped else []
        with torch.serialization.safe_globals([(Unread, name) for name in unsafe]):
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except Exception as error:
        raise ValueError(f"{path}: not a file of weights ({' '.join(str(error).split())[:160]})") from None
    state = state.get("state_dict", state) if isinstance(state, Mapping) else state
    if not isinstance(state, Mapping):
        raise ValueError(f"{path}: holds {type(state).__name__}, not a state dict of names and tensors")
    foreign = [str(name) for name, value in state.items() if not isinstance(value, Tensor)]
    if foreign or not state:
        raise ValueError(f"{path}: not a state dict of names and tensors ({listed(foreign) or 'it is empty'})")
    return {str(name): value for name, value in state.items()}


class Contents:
    """The tensors of one file, taken away part by part; what remains at the end was not understood."""

    def __init__(self, path: Path, tensors: Mapping[str, Tensor]) -> None:
        self.path = path
        self.rest = dict(tensors)
        self.notes: list[str] = []
        """What was read and what was left out, a line each."""

    def has(self, prefix: str) -> bool:
        return any(name.startswith(prefix) for name in self.rest)

    def take(self, prefix: str) -> dict[str, Tensor]:
        """The tensors below `prefix`, without it."""
        names = [name for name in self.rest if name.startswith(prefix)]
        return {name.removeprefix(prefix): self.rest.pop(name) for name in names}

    def leave_out(self, which: Callable[[str], bool], why: str) -> None:
        """Tensors that nothing here needs, with the rule by which they are not read."""
        names = [name for name in self.rest if which(name)]
        for name in names:
            del self.rest[name]
        if names:
            self.notes.append(f"left out: {listed(names)} ({why})")

    def end(self) -> None:
        """Raises ValueError where something is left that nobody asked for."""
        if self.rest:
            raise ValueError(f"{self.path}: unknown: {listed(sorted(self.rest))}; is this the file of another row?")
