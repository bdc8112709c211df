"""Group norm and SiLU as one operation, in Triton, for feature maps kept channels-last on a GPU.

The plain layers in `ldm.nn.blocks` say what is computed, and are the reference that tests hold this against. A norm
reads its input twice and writes once; torch's own, under autocast, also converts to float32 and back, and rearranges on
the way back. Every sum is over a fixed partition in a fixed order, without atomics: the same bytes each time.

`x` may be two feature maps, of which the second's channels come after the first's: a UNet's concatenations are then
never made, neither on the way forward nor, for their gradients, back.
"""

import importlib.util
import os
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

if importlib.util.find_spec("triton"):
    import triton
    import triton.language as tl
else:  # `usable` is false there
    triton = tl = None

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
"""Triton's kernels run on the CPU, slowly: how tests without a GPU check them."""
BLOCK_N, BLOCK_C, CHUNK = 32, 64, 256
"""Places and channels of a tile; places whose sums one program makes."""
TILE = {"BLOCK_N": BLOCK_N, "BLOCK_C": BLOCK_C}


def usable(x: Tensor) -> bool:
    """Whether `x` can take this path: on a GPU, channels last."""
    on_a_gpu = triton is not None and (x.is_cuda or INTERPRETED)
    return on_a_gpu and x.is_contiguous(memory_format=torch.channels_last)


def norm_silu(
    x: Float[Tensor, "b c h w"],
    norm: nn.GroupNorm,
    *,
    beside: Float[Tensor, "b c2 h w"] | None = None,
    shift: Float[Tensor, "b_or_1 c3"] | None = None,
    affine: tuple[Tensor, Tensor] | None = None,
    silu: bool = True,
) -> tuple[Tensor, ...]:
    """SiLU of the norm of `x` (and the channels `beside` it) plus `shift`; then `x`, and `beside` where it is given.

    What goes on from these copies of the inputs has its gradient added within the norm's backward pass. `affine`, of
    shapes (b, c), stands in for the norm's weight and bias.
    """
    weight, bias = affine or (norm.weight[None], norm.bias[None])
    maps = (x,) if beside is None else (x, beside)
    return _NormSiLU.apply(weight, bias, shift, norm.num_groups, norm.eps, silu, *maps)


def add(
    x: Float[Tensor, "b c h w"], y: Float[Tensor, "b c h w"], bias: Float[Tensor, " c"]
) -> Float[Tensor, "b c h w"]:
    """`x + y + bias`, the bias for each channel."""
    return _Add.apply(x, y, bias)


class _NormSiLU(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, bias: Tensor, shift: Tensor | None, groups: int, eps: float, silu: bool, *maps: Tensor
    ) -> tuple[Tensor, ...]:
        x, c, n = maps[0], sum(m.shape[1] for m in maps), maps[0].shape[2] * maps[0].shape[3]
        b = len(x)
        partial = _channel_sums(maps)
        sums, r, e = x.new_empty((3, b, c), dtype=torch.float32)
        held = r if shift is None else shift
        _statistics[(b, groups)](
            partial, held, sums, r, e, n, c, eps, _row(held), HAS_SHIFT=shift is not None, **_folding(partial, groups)
        )
        y = torch.empty((b, c, *x.shape[2:]), dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
        _apply[_tiles(y)](*_two(maps), y, r, e, weight, bias, n, c, _row(weight), **_pair(maps), SILU=silu, **TILE)
        ctx.save_for_backward(weight, bias, shift, sums, r, e, *maps)
        ctx.groups, ctx.silu = groups, silu
        ctx.set_materialize_grads(False)  # of copies from which nothing went on
        return y, *(m.view_as(m) for m in maps)

    @staticmethod
    def backward(ctx: Any, dy: Tensor, *residuals: Tensor | None) -> tuple[Any, ...]:
        weight, bias, shift, sums, r, e, *maps = ctx.saved_tensors
        dy = dy.contiguous(memory_format=torch.channels_last)
        b, c, h, w = dy.shape
        n = h * w
        partial = dy.new_empty((b, triton.cdiv(n, CHUNK), 2, c), dtype=torch.float32)
        _gradient_sums[(b, partial.shape[1], triton.cdiv(c, BLOCK_C))](
            *_two(maps), dy, r, e, weight, bias, partial, n, c, _row(weight),
            **_pair(maps), SILU=ctx.silu, CHUNK=CHUNK, **TILE,
        )  # fmt: skip
        daffine, rest = dy.new_empty((b, 2, c), dtype=torch.float32), dy.new_empty((3, b, c), dtype=torch.float32)
        dshift, k2, k3 = rest
        _gradient_statistics[(b, ctx.groups)](
            partial, weight, sums, r, e, daffine, dshift, k2, k3, n, c, _row(weight), **_folding(partial, ctx.groups)
        )
        gradients = [torch.empty_like(m) for m in maps]
        joining = [None if g is None else g.contiguous(memory_format=torch.channels_last) for g in residuals]
        held = [m if g is None else g for m, g in zip(maps, joining, strict=True)]
        _gradient[_tiles(dy)](
            *_two(maps), dy, *_two(held), *_two(gradients), r, e, weight, bias, k2, k3, n, c, _row(weight),
            **_pair(maps), FIRST=joining[0] is not None, SECOND=joining[-1] is not None, SILU=ctx.silu, **TILE,
        )  # fmt: skip
        if len(weight) < b:
            daffine = daffine.sum(0, keepdim=True)
        if shift is not None and len(shift) < b:
            dshift = dshift.sum(0, keepdim=True)
        dweight, dbias = (d.to(weight.dtype) for d in daffine.unbind(1))
        return dweight, dbias, None if shift is None else dshift.to(shift.dtype), None, None, None, *gradients


class _Add(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, bias: Tensor) -> Tensor:
        _, c, h, w = x.shape
        out = torch.empty_like(x)
        _add[_tiles(x)](x, y, bias, out, h * w, c, **TILE)
        ctx.dtype = bias.dtype
        return out

    @staticmethod
    def backward(ctx: Any, dout: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        dout = dout.contiguous(memory_format=torch.channels_last)
        return dout, dout, _channel_sums([dout])[:, :, 0].sum((0, 1)).to(ctx.dtype)


def _channel_sums(maps: Sequence[Tensor]) -> Tensor:
    """Sums of the maps and of their squares over every CHUNK places: (b, chunks, 2, c)."""
    x, c, n = maps[0], sum(m.shape[1] for m in maps), maps[0].shape[2] * maps[0].shape[3]
    partial = x.new_empty((len(x), triton.cdiv(n, CHUNK), 2, c), dtype=torch.float32)
    grid = (len(x), partial.shape[1], triton.cdiv(c, BLOCK_C))
    _sums[grid](*_two(maps), partial, n, c, **_pair(maps), CHUNK=CHUNK, **TILE)
    return partial


def _two(maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    return maps[0], maps[-1]


def _pair(maps: Sequence[Tensor]) -> dict[str, int | bool]:
    """How many channels the first map has, and whether there is a second."""
    return {"c1": maps[0].shape[1], "PAIR": len(maps) == 2}


def _folding(partial: Tensor, groups: int) -> dict[str, int]:
    """How the chunks' sums are added up to those of `groups`."""
    _, chunks, _, c = partial.shape
    split = triton.next_power_of_2(min(chunks, 32))
    return {"CHUNKS": chunks, "SPLIT": split, "WIDTH": c // groups, "PADDED": triton.next_power_of_2(c // groups)}


def _tiles(x: Tensor) -> tuple[int]:
    """Programs, in the one dimension of a grid that has more than 65,535."""
    b, c, h, w = x.shape
    return (triton.cdiv(h * w, BLOCK_N) * triton.cdiv(c, BLOCK_C) * b,)


def _row(table: Tensor) -> int:
    """How far the entries of the next picture are in a table of one row, or of one for each picture."""
    return table.shape[1] if len(table) > 1 else 0


if triton is not None:

    @triton.jit
    def _tile(n, c, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr):
        """Which picture, and which of its places and channels, this program has."""
        wide, high = tl.cdiv(n, BLOCK_N), tl.cdiv(c, BLOCK_C)
        which = tl.program_id(0) // wide
        place = (tl.program_id(0) % wide) * BLOCK_N + tl.arange(0, BLOCK_N)
        channel = (which % high) * BLOCK_C + tl.arange(0, BLOCK_C)
        return which // high, place, channel

    @triton.jit
    def _read(x, x2, place, channel, inside, c, c1, PAIR: tl.constexpr):
        """A tile of the first map, or of both; `place` counts over all pictures."""
        if PAIR:
            first = inside & (channel < c1)[None, :]
            second = inside & (channel >= c1)[None, :]
            v = tl.load(x + place[:, None] * c1 + channel[None, :], mask=first, other=0.0).to(tl.float32)
            at = x2 + place[:, None] * (c - c1) + (channel - c1)[None, :]
            v += tl.load(at, mask=second, other=0.0).to(tl.float32)
        else:
            v = tl.load(x + place[:, None] * c + channel[None, :], mask=inside, other=0.0).to(tl.float32)
        return v

    @triton.jit
    def _sums(
        x, x2, partial, n, c, c1,
        PAIR: tl.constexpr, CHUNK: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr,
    ):  # fmt: skip
        b, chunk, chunks = tl.program_id(0), tl.program_id(1), tl.num_programs(1)
        channel = tl.program_id(2) * BLOCK_C + tl.arange(0, BLOCK_C)
        first = tl.zeros([BLOCK_N, BLOCK_C], tl.float32)
        second = tl.zeros([BLOCK_N, BLOCK_C], tl.float32)
        for start in range(0, CHUNK, BLOCK_N):
            place = chunk * CHUNK + start + tl.arange(0, BLOCK_N)
            inside = (place < n)[:, None] & (channel < c)[None, :]
            v = _read(x, x2, (b * n + place).to(tl.int64), channel, inside, c, c1, PAIR)
            first += v
            second += v * v
        at = partial + (b * chunks + chunk) * 2 * c + channel
        tl.store(at, tl.sum(first, 0), mask=channel < c)
        tl.store(at + c, tl.sum(second, 0), mask=channel < c)

    @triton.jit
    def _folded(partial, b, channel, inside, c, CHUNKS: tl.constexpr, SPLIT: tl.constexpr, PADDED: tl.constexpr):
        """Both sums over all chunks, by channel."""
        first = tl.zeros([PADDED], tl.float32)
        second = tl.zeros([PADDED], tl.float32)
        for start in range(0, CHUNKS, SPLIT):
            chunk = start + tl.arange(0, SPLIT)
            at = partial + (b * CHUNKS + chunk)[:, None] * 2 * c + channel[None, :]
            mask = (chunk < CHUNKS)[:, None] & inside[None, :]
            first += tl.sum(tl.load(at, mask=mask, other=0.0), 0)
            second += tl.sum(tl.load(at + c, mask=mask, other=0.0), 0)
        return first, second

    @triton.jit
    def _statistics(
        partial, shift, sums, r, e, n, c, eps, shift_row,
        HAS_SHIFT: tl.constexpr, CHUNKS: tl.constexpr, SPLIT: tl.constexpr, WIDTH: tl.constexpr, PADDED: tl.constexpr,
    ):  # fmt: skip
        """x hat is x r + e, by channel; `sums` are those of x."""
        b, lane = tl.program_id(0), tl.arange(0, PADDED)
        channel, inside = tl.program_id(1) * WIDTH + lane, lane < WIDTH
        first, second = _folded(partial, b, channel, inside, c, CHUNKS, SPLIT, PADDED)
        tl.store(sums + b * c + channel, first, mask=inside)
        s = tl.zeros([PADDED], tl.float32)
        if HAS_SHIFT:
            s = tl.load(shift + b * shift_row + channel, mask=inside, other=0.0).to(tl.float32)
        count = n * WIDTH
        mean = tl.sum(first + n * s, 0) / count
        away = s - mean
        squares = second + 2 * away * first + n * away * away
        variance = tl.sum(tl.where(inside, squares, 0.0), 0) / count
        rstd = 1 / tl.sqrt(tl.maximum(variance, 0.0) + eps)
        tl.store(r + b * c + channel, tl.zeros([PADDED], tl.float32) + rstd, mask=inside)
        tl.store(e + b * c + channel, away * rstd, mask=inside)

    @triton.jit
    def _affine(r, e, weight, bias, b, channel, known, c, row):
        scale = tl.load(r + b * c + channel, mask=known, other=0.0)
        moved = tl.load(e + b * c + channel, mask=known, other=0.0)
        w = tl.load(weight + b * row + channel, mask=known, other=0.0).to(tl.float32)
        d = tl.load(bias + b * row + channel, mask=known, other=0.0).to(tl.float32)
        return scale[None, :], moved[None, :], w[None, :], d[None, :]

    @triton.jit
    def _apply(
        x, x2, y, r, e, weight, bias, n, c, row, c1,
        PAIR: tl.constexpr, SILU: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr,
    ):  # fmt: skip
        b, place, channel = _tile(n, c, BLOCK_N, BLOCK_C)
        inside = (place < n)[:, None] & (channel < c)[None, :]
        at = (b * n + place).to(tl.int64)
        scale, moved, w, d = _affine(r, e, weight, bias, b, channel, channel < c, c, row)
        z = (_read(x, x2, at, channel, inside, c, c1, PAIR) * scale + moved) * w + d
        if SILU:
            z = z * tl.sigmoid(z)
        tl.store(y + at[:, None] * c + channel[None, :], z.to(y.dtype.element_ty), mask=inside)

    @triton.jit
    def _before_silu(hat, g, w, d, SILU: tl.constexpr):
        """The gradient of what SiLU was given: x hat w + d."""
        if SILU:
            z = hat * w + d
            s = tl.sigmoid(z)
            g = g * s * (1 + z * (1 - s))
        return g

    @triton.jit
    def _gradient_sums(
        x, x2, dy, r, e, weight, bias, partial, n, c, row, c1,
        PAIR: tl.constexpr, SILU: tl.constexpr, CHUNK: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr,
    ):  # fmt: skip
        """Sums over places of the gradient before SiLU, and of it times x hat."""
        b, chunk, chunks = tl.program_id(0), tl.program_id(1), tl.num_programs(1)
        channel = tl.program_id(2) * BLOCK_C + tl.arange(0, BLOCK_C)
        scale, moved, w, d = _affine(r, e, weight, bias, b, channel, channel < c, c, row)
        first = tl.zeros([BLOCK_N, BLOCK_C], tl.float32)
        second = tl.zeros([BLOCK_N, BLOCK_C], tl.float32)
        for start in range(0, CHUNK, BLOCK_N):
            place = chunk * CHUNK + start + tl.arange(0, BLOCK_N)
            inside = (place < n)[:, None] & (channel < c)[None, :]
            at = (b * n + place).to(tl.int64)
            hat = _read(x, x2, at, channel, inside, c, c1, PAIR) * scale + moved
            g = tl.load(dy + at[:, None] * c + channel[None, :], mask=inside, other=0.0).to(tl.float32)
            g = _before_silu(hat, g, w, d, SILU)
            first += g
            second += g * hat
        at = partial + (b * chunks + chunk) * 2 * c + channel
        tl.store(at, tl.sum(first, 0), mask=channel < c)
        tl.store(at + c, tl.sum(second, 0), mask=channel < c)

    @triton.jit
    def _gradient_statistics(
        partial, weight, sums, r, e, daffine, dshift, k2, k3, n, c, row,
        CHUNKS: tl.constexpr, SPLIT: tl.constexpr, WIDTH: tl.constexpr, PADDED: tl.constexpr,
    ):  # fmt: skip
        """dx is r w g - k2 - k3 x hat, with g the gradient before SiLU."""
        b, lane = tl.program_id(0), tl.arange(0, PADDED)
        channel, inside = tl.program_id(1) * WIDTH + lane, lane < WIDTH
        first, second = _folded(partial, b, channel, inside, c, CHUNKS, SPLIT, PADDED)
        tl.store(daffine + 2 * b * c + channel, second, mask=inside)
        tl.store(daffine + (2 * b + 1) * c + channel, first, mask=inside)
        at = b * c + channel
        w = tl.load(weight + b * row + channel, mask=inside, other=0.0).to(tl.float32)
        scale = tl.load(r + at, mask=inside, other=0.0)
        moved = tl.load(e + at, mask=inside, other=0.0)
        total = tl.load(sums + at, mask=inside, other=0.0)
        count = n * WIDTH
        two = scale * (tl.sum(w * first, 0) / count)
        three = scale * (tl.sum(w * second, 0) / count)
        tl.store(k2 + at, two, mask=inside)
        tl.store(k3 + at, three, mask=inside)
        tl.store(dshift + at, scale * w * first - n * two - three * (total * scale + n * moved), mask=inside)

    @triton.jit
    def _gradient(
        x, x2, dy, residual, residual2, dx, dx2, r, e, weight, bias, k2, k3, n, c, row, c1,
        PAIR: tl.constexpr, FIRST: tl.constexpr, SECOND: tl.constexpr, SILU: tl.constexpr,
        BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr,
    ):  # fmt: skip
        b, place, channel = _tile(n, c, BLOCK_N, BLOCK_C)
        known = channel < c
        inside = (place < n)[:, None] & known[None, :]
        at = (b * n + place).to(tl.int64)
        scale, moved, w, d = _affine(r, e, weight, bias, b, channel, known, c, row)
        two = tl.load(k2 + b * c + channel, mask=known, other=0.0)[None, :]
        three = tl.load(k3 + b * c + channel, mask=known, other=0.0)[None, :]
        hat = _read(x, x2, at, channel, inside, c, c1, PAIR) * scale + moved
        g = tl.load(dy + at[:, None] * c + channel[None, :], mask=inside, other=0.0).to(tl.float32)
        v = scale * w * _before_silu(hat, g, w, d, SILU) - two - three * hat
        here = inside & (channel < c1)[None, :]
        to = at[:, None] * c1 + channel[None, :]
        if FIRST:
            v += tl.load(residual + to, mask=here, other=0.0).to(tl.float32)
        if PAIR:
            there = inside & (channel >= c1)[None, :]
            to2 = at[:, None] * (c - c1) + (channel - c1)[None, :]
            if SECOND:
                v += tl.load(residual2 + to2, mask=there, other=0.0).to(tl.float32)
            tl.store(dx2 + to2, v.to(dx2.dtype.element_ty), mask=there)
        tl.store(dx + to, v.to(dx.dtype.element_ty), mask=here)

    @triton.jit
    def _add(x, y, bias, out, n, c, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr):
        b, place, channel = _tile(n, c, BLOCK_N, BLOCK_C)
        inside = (place < n)[:, None] & (channel < c)[None, :]
        at = (b * n + place).to(tl.int64)[:, None] * c + channel[None, :]
        v = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
        v += tl.load(y + at, mask=inside, other=0.0).to(tl.float32)
        v += tl.load(bias + channel, mask=channel < c, other=0.0).to(tl.float32)[None, :]
        tl.store(out + at, v.to(out.dtype.element_ty), mask=inside)
