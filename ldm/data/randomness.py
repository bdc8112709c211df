"""Randomness derived from a key, never from a stream that someone else may advance."""

import hashlib
import json
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

_WORDS = slice(24, 24 + 8 * 624)  # where torch's CPU generator state keeps the 624 words of its Mersenne twister


def key_seed(*key: int | str) -> int:
    """A seed of 63 bits, for what can only be seeded by a number."""
    return int.from_bytes(hashlib.shake_256(json.dumps(key).encode()).digest(8)) >> 1


def generator(*key: int | str, device: torch.device | None = None) -> torch.Generator:
    """A generator that depends on `key` and on nothing else; on the CPU where no `device` is given.

    On a CPU `manual_seed` keeps only 32 bits of a seed, so among 50,000 keyed noises some would be equal by chance;
    here the whole state of the twister comes from the key's SHAKE-256.

    >>> torch.randn(3, generator=generator("noise", seed, step))
    """
    return rekey(torch.Generator(device or "cpu"), *key)


def rekey(generator: torch.Generator, *key: int | str) -> torch.Generator:
    """The same `generator`, from here on as a new one of `key`."""
    if generator.device.type != "cpu":
        return generator.manual_seed(key_seed(*key))
    digest = hashlib.shake_256(json.dumps(key).encode()).digest(4 * 624)
    state = generator.manual_seed(0).get_state()
    words = torch.frombuffer(bytearray(digest), dtype=torch.int32).to(torch.int64) & 0xFFFFFFFF
    state[_WORDS] = words.view(torch.uint8)
    return generator.set_state(state)


def noise(shape: Sequence[int], *key: int | str) -> Float[Tensor, "..."]:
    """Standard normal noise of `shape`, float32 on the CPU: the same on every machine that it is moved to."""
    return torch.randn(tuple(shape), generator=generator(*key))
