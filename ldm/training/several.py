"""A stage shared by several processes, a training by parts of the batch; torchrun starts them, or flows.several does.

Everything random is drawn for the whole batch, in every process, and each takes its rows, so what a step sees does not
depend on how many there are. The batch is cut into micro-batches. In exact mode their number is a parameter and their
gradients are added in order of their index, so that 1, 2 or 4 processes end in the same bytes; in fast mode each
process has at least one and the sums are NCCL's (or gloo's).
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from ldm.config import Run
from ldm.training.config import Training


def rank() -> int:
    """Of this process; 0 writes and shows."""
    return int(os.environ.get("RANK", "0"))


Step = Callable[..., tuple[dict[str, Tensor], Sequence[Tensor]]]
"""From rows to what is seen of them, and to gradients that are to be added up beside those of the parameters."""
PATIENCE = timedelta(hours=2)
"""How long the others wait where the first one looks at pictures or writes a file."""


class Processes:
    """This process among those that share a stage, as torchrun says by RANK and WORLD_SIZE; alone where it does not."""

    def __init__(self, device: torch.device) -> None:
        self.rank, self.count = rank(), int(os.environ["WORLD_SIZE"]) if "RANK" in os.environ else 1
        self.device = device

    @property
    def first(self) -> bool:
        """The one that writes and shows."""
        return self.rank == 0

    def join(self) -> None:
        """Meet the others, before anything is on the device: each has a GPU of its own."""
        if self.count == 1:
            return
        backend, where = "gloo", None
        if self.device.type == "cuda":
            local = int(os.environ["LOCAL_RANK"])
            if local >= torch.cuda.device_count():
                raise ValueError(f"{local + 1} processes are more than the {torch.cuda.device_count()} GPUs here")
            backend, where = "nccl", torch.device("cuda", local)
            torch.cuda.set_device(where)
        if not dist.is_initialized():
            with _others_there():
                dist.init_process_group(backend, timeout=PATIENCE, device_id=where)

    def leave(self) -> None:
        """After all have done their part; from here on the first process is alone with what it writes."""
        if self.count > 1:
            with _others_there():
                dist.barrier()
                dist.destroy_process_group()

    def gathered(self, mine: Tensor) -> Tensor:
        """What every process has, one after the other along the first axis."""
        every = mine.new_empty((self.count * len(mine), *mine.shape[1:]))
        with _others_there():
            dist.all_gather(list(every.chunk(self.count)), mine.contiguous())
        return every


class Several(Processes):
    """The place of this process among those of a training; one alone is no special case to callers."""

    def __init__(self, run: Run, train: Training, device: torch.device) -> None:
        """Meets the others. Raises ValueError of one line where so many processes cannot share a batch."""
        super().__init__(device)
        self.exact = run.mode == "exact"
        self.micro_batches = train.micro_batches if self.exact else max(train.micro_batches, self.count)
        self.rounds, left = divmod(self.micro_batches, self.count)
        if left and self.exact:
            raise ValueError(
                f"train.micro_batches: {self.micro_batches} cannot be shared by {self.count} processes, and in exact"
                f" mode the result depends on it: set it to a multiple of {self.count}, or run.mode to fast"
            )
        if left or train.batch % self.micro_batches:
            raise ValueError(
                f"train.batch: {train.batch} in {self.micro_batches} micro-batches cannot be shared by {self.count}"
                " processes: they must divide it, each with as many"
            )
        # Of micro-batches 0, 1, 2, ... this process has every count-th, so that each round of sums goes on in order.
        parts = torch.arange(train.batch).view(self.rounds, self.count, -1)
        rows = parts[:, self.rank].flatten()
        self.join()
        self._rows = {where.type: rows.to(where) for where in (torch.device("cpu"), device)}

    @property
    def alone(self) -> bool:
        """Whether a step is one call on the whole batch."""
        return self.micro_batches == 1

    def agree(self, start: int, models: Iterable[nn.Module]) -> None:
        """Make sure that all begin at the same step, and with the weights of the first."""
        if self.count == 1:
            return
        starts = self.gathered(torch.tensor([start], device=self.device)).flatten().tolist()
        if len(set(starts)) > 1:
            raise ValueError(
                f"the processes found checkpoints of different steps ({', '.join(map(str, starts))}): they need one"
                " folder that all of them see"
            )
        with _others_there():
            for model in models:
                for tensor in model.state_dict().values():
                    first = tensor.contiguous()
                    dist.broadcast(first, 0)
                    tensor.copy_(first)

    def mine(self, whole: Tensor) -> Tensor:
        """This process's rows of what holds the whole batch."""
        return whole if self.count == 1 else whole[self._rows[whole.device.type]]

    def whole(self, mine: Tensor) -> Tensor:
        """The rows of all processes, in order of the batch."""
        if self.count == 1:
            return mine
        parts = self.gathered(mine).view(self.count, self.rounds, -1, *mine.shape[1:])
        return parts.transpose(0, 1).reshape(-1, *mine.shape[1:])

    def backward(
        self,
        step: Step,
        optimiser: torch.optim.Optimizer,
        rows: dict[str, Tensor],
        seed: Callable[..., None] | None = None,
    ) -> tuple[dict[str, Tensor], Sequence[Tensor]]:
        """Call `step`, which leaves gradients, on each micro-batch of this process's `rows`.

        The gradients of the parameters of `optimiser`, and those that `step` returns, are then the means over the whole
        batch. Of what it saw numbers are so too, and rows are those of this process. `seed` is called before, for
        layers that draw from the global generator: with the micro-batch's index where there are several.
        """
        if self.alone:
            if seed:
                seed()
            seen, apart = step(**rows)
            return dict(seen), apart
        total, kept = _Total(self), list[dict[str, Tensor]]()
        for part in range(self.rounds):
            if seed:
                seed(part * self.count + self.rank)
            chunk = {name: column.chunk(self.rounds)[part].clone() for name, column in rows.items()}
            seen, apart = step(**chunk)
            gradients = [p.grad for group in optimiser.param_groups for p in group["params"] if p.grad is not None]
            total.add([*gradients, *apart])
            kept.append({name: tensor.clone() for name, tensor in seen.items()})  # a graph overwrites them
        total.mean([*gradients, *apart])
        together = {name: torch.stack([part[name] for part in kept]) for name in seen}
        return {
            name: parts.flatten(0, 1) if parts.ndim > 1 else self.whole(parts).mean()
            for name, parts in together.items()
        }, apart


class _Total:
    """Sums lists of tensors over micro-batches, each process one in a round."""

    def __init__(self, several: Several) -> None:
        self.several = several
        self.sum: Tensor | None = None

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Those of this round's micro-batches. In exact mode each process adds up a slice of all, in order of index."""
        flat, several = torch.cat([tensor.flatten() for tensor in tensors]), self.several
        if not several.exact or several.count == 1:
            terms = [flat]
        else:
            flat = F.pad(flat, (0, -len(flat) % several.count))
            slices = torch.empty_like(flat)
            with _others_there():
                dist.all_to_all_single(slices, flat)
            terms = list(slices.view(several.count, -1))
        for term in terms:
            self.sum = term.clone() if self.sum is None else self.sum.add_(term)

    def mean(self, tensors: Sequence[Tensor]) -> None:
        """Write what was added, over the number of micro-batches, into `tensors`."""
        several, total = self.several, self.sum
        assert total is not None
        if several.count > 1 and several.exact:
            total = several.gathered(total)
        elif several.count > 1:
            with _others_there():
                dist.all_reduce(total)
        sizes = [tensor.numel() for tensor in tensors]
        for tensor, part in zip(tensors, total[: sum(sizes)].div_(several.micro_batches).split(sizes), strict=True):
            tensor.copy_(part.view_as(tensor))


@contextmanager
def _others_there() -> Iterator[None]:
    """What torch raises where another process has gone, as one line; the reason is that other's to say."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        reason = " ".join(str(error).split())[:200]
        raise ConnectionError(f"another process has gone; the same command goes on ({reason})") from error
