"""The codebook of a vector-quantised first stage: nearest codes, gradients straight through, dead codes revived."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

DISTANCES = 1 << 24
"""Distances held at once on a CPU: 64 MiB, however large the batch is."""
FUSED = 1 << 4
"""How many times as many are computed at once on a GPU, which holds none of them."""


def _nearest(places: Float[Tensor, "n z"], codes: Float[Tensor, "size z"]) -> Int[Tensor, " n"]:
    """The first of the nearest codes."""
    return torch.cdist(places, codes, compute_mode="donot_use_mm_for_euclid_dist").argmin(1)


def _fused(places: Float[Tensor, "n z"], codes: Float[Tensor, "size z"]) -> Int[Tensor, " n"]:
    """The same in one kernel when compiled, for `cdist` on a GPU starts a block of threads for each distance."""
    squares = [(places[:, None, i] - codes[None, :, i]).square() for i in range(codes.shape[1])]
    return sum(squares[1:], squares[0]).argmin(1)


@cache
def _compiled() -> Callable[[Tensor, Tensor], Tensor]:
    """Not before it is needed: what compiles takes a second to import."""
    return torch.compile(_fused, dynamic=True)


@dataclass(frozen=True)
class Quantised:
    """What training needs of a quantised latent."""

    latent: Float[Tensor, "b z h w"]
    """The nearest codes, with the gradient of the unquantised latent."""
    loss: Float[Tensor, ""]
    """|sg[z_e] - z_q|^2 + beta |z_e - sg[z_q]|^2, averaged over all elements."""
    codes: Int[Tensor, "b h w"]
    raw: Float[Tensor, "b z h w"]
    """The unquantised latent, without gradient."""


class Codebook(nn.Module):
    """`size` vectors, one of which stands for each place of a latent (arXiv 1711.00937)."""

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.codes = nn.Parameter(torch.empty(size, width).uniform_(-1 / size, 1 / size))

    @torch.no_grad()
    def nearest(self, latent: Float[Tensor, "b z h w"]) -> Int[Tensor, "b h w"]:
        """The code nearest to each place; of equally near ones the first.

        Distances are those of differences, not expanded into a matrix product: in TF32 that finds another code at 3 %
        of the places.
        """
        places = rearrange(latent, "b z h w -> (b h w) z")
        rows = max(1, DISTANCES // len(self.codes))
        find = _compiled() if latent.is_cuda else _nearest
        codes = torch.cat([find(part, self.codes) for part in places.split(FUSED * rows if latent.is_cuda else rows)])
        return codes.view(len(latent), *latent.shape[2:])

    def vectors(self, codes: Int[Tensor, "b h w"]) -> Float[Tensor, "b z h w"]:
        return rearrange(F.embedding(codes, self.codes), "b h w z -> b z h w")

    def forward(self, latent: Float[Tensor, "b z h w"]) -> Float[Tensor, "b z h w"]:
        """Every place replaced by its nearest code."""
        return self.vectors(self.nearest(latent))

    def quantise(self, latent: Float[Tensor, "b z h w"], beta: float) -> Quantised:
        """For training. `beta` weighs the commitment of the latent to its codes, as the paper of VQ-VAE has it.

        The released quantiser weighs the codes' own term instead, by mistake.
        """
        codes, fixed = self.nearest(latent), latent.detach()
        quantised = self.vectors(codes)
        commitment = F.mse_loss(latent, quantised.detach())
        loss = F.mse_loss(quantised, fixed) + beta * commitment
        straight_through = latent + (quantised.detach() - fixed)
        return Quantised(straight_through, loss, codes, fixed)


def use(counts: Int[Tensor, " size"]) -> tuple[float, float]:
    """Share of the codes that occurred, and perplexity: how many equally frequent codes would be as hard to guess."""
    total = int(counts.sum())
    if not total:
        return 0.0, 0.0
    part = counts.double() / total
    entropy = -torch.special.xlogy(part, part).sum()
    return float((counts > 0).double().mean()), float(entropy.exp())


class Usage:
    """Which codes occur in training, and new lives for those that no longer do; part of the resume state.

    All `codebooks`, the trained one and its average, are given a revived code: an average alone would keep the mean of
    a code's old life and its new one. `after`: steps without use until a code is revived; None: never.
    """

    def __init__(self, codebooks: Sequence[Codebook], after: int | None) -> None:
        self._codebooks, self._after = codebooks, after
        codes = codebooks[0].codes
        self._counts = torch.zeros(len(codes), dtype=torch.int64, device=codes.device)
        self._idle = torch.zeros_like(self._counts)

    def add(self, codes: Int[Tensor, "b h w"], raw: Float[Tensor, "b z h w"], draw: torch.Generator) -> None:
        """Count a batch, and move codes that were idle too long onto places of it that `draw` picks, each its own.

        `codes` and `raw` are those of its `Quantised`.

        Where there are fewer places than such codes, the first codes get one and the others wait for the next batch.
        """
        codes = codes.flatten()
        now = torch.zeros_like(self._counts).index_add_(0, codes, torch.ones_like(codes))
        self._counts += now
        self._idle = torch.where(now > 0, 0, self._idle + 1)
        if self._after is None:
            return
        dead = self._idle >= self._after
        places = rearrange(raw, "b z h w -> (b h w) z")
        order = torch.randperm(len(places), generator=draw, device=places.device)
        rank = dead.cumsum(0) - 1
        revived = dead & (rank < len(places))
        chosen = places[order[rank.clamp(0, len(places) - 1)]]
        for codebook in self._codebooks:
            codebook.codes.data.copy_(torch.where(revived[:, None], chosen, codebook.codes.data))
        self._idle = torch.where(revived, 0, self._idle)

    def report(self) -> dict[str, float]:
        """Share of the codes that occurred, and perplexity, since the last report."""
        used, perplexity = use(self._counts)
        self._counts.zero_()
        return {"codebook_used": used, "perplexity": perplexity}

    def state_dict(self) -> dict[str, Tensor]:
        return {"counts": self._counts, "idle": self._idle}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self._counts, self._idle = state["counts"].clone(), state["idle"].clone()
