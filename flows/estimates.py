"""What a stage will take: its counts, from params.yaml, times what a small stage took."""

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.rehearsal import Measured, Rehearsal
from flows.shrunk import FEW, FEWEST, MORE, STEPS, VALIDATION, Shrunk
from ldm.autoencoder.config import Autoencoder, Identity, Latents
from ldm.autoencoder.watch import MEASURED as RECONSTRUCTED
from ldm.config import section
from ldm.diffusion.config import Diffusion
from ldm.diffusion.watch import MEASURED as HELD_BACK
from ldm.evaluation.config import AutoencoderEvaluation, Reference, SampleEvaluation
from ldm.evaluation.reference import OPPOSITE
from ldm.files import read_json
from ldm.sampling.config import PLMS, Method, Samples
from ldm.sampling.plan import step_list
from ldm.sources.config import Dataset, Drawn
from ldm.sources.palette import PAIRS
from ldm.training.config import Training

CHECKPOINTS = 3
"""Two are kept while a third is being written."""
FORWARD = 1 / 3
"""Of a training step, the part without gradients."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Times in seconds, sizes in bytes; None where it is not known, and `note` says why."""

    work: str
    """The counts in words: 1,900 steps of 32."""
    seconds: float | None = None
    memory: int | None = None
    gpu_memory: int | None = None
    output: int | None = None
    scratch: int | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """In seconds and bytes."""

    seconds: float
    output: int
    scratch: int = 0


Counted = tuple[str, Callable[..., Cost]]
"""The counts in words, and what they cost by the measured small rows. It raises ValueError for unknown counts."""


class Estimates:
    """Of stages of `params`. Without a `rehearsal` only the counts."""

    def __init__(
        self, params: dict[str, Any], current: Collection[str], small: Shrunk, rehearsal: Rehearsal | None
    ) -> None:
        """`current`: data sets that are up to date, so that they can be counted."""
        self._params, self._current, self._small, self._rehearsal = params, current, small, rehearsal

    def of(self, stage: str, name: str) -> Estimate:
        """Raises ValueError of one line for a row that is not valid."""
        work, cost_of = self._counted(stage, name)
        if self._rehearsal is None:
            return Estimate(work=work)
        try:
            measured = [self._rehearsal.measure(row) for row in self._small.rows(stage, name)]
        except ValueError as error:
            return Estimate(work=work, note=f"not measured: {error}")
        memory, gpu = max(m.memory for m in measured), max(m.gpu_memory for m in measured)
        slow = "" if all(m.ended for m in measured) else "slow: from the little that was seen of it"
        try:
            cost = cost_of(*measured)
        except ValueError as unknown:
            return Estimate(work=work, memory=memory, gpu_memory=gpu, note=str(unknown))
        return Estimate(
            work=work, seconds=cost.seconds, memory=memory, gpu_memory=gpu,
            output=cost.output, scratch=cost.scratch, note=slow,
        )  # fmt: skip

    def _counted(self, stage: str, name: str) -> Counted:
        match stage:
            case "prepare":
                return self._prepare(name)
            case "train_autoencoder":
                return self._train_autoencoder(name)
            case "cache_latents":
                return self._cache_latents(name)
            case "train_diffusion":
                return self._train_diffusion(name)
            case "sample":
                return self._sample(name)
            case "collect":
                return self._collect(name)
            case "reference":
                return self._reference(name)
            case "evaluate_autoencoder":
                return self._evaluate_autoencoder(name)
            case "evaluate":
                return self._evaluate(name)
        return "", _unmeasured

    def _prepare(self, name: str) -> Counted:
        config = section(self._params, Dataset, f"datasets.{name}")

        def cost(small: Measured) -> Cost:
            total = config.source.count if isinstance(config.source, Drawn) else small.total
            if not small.done:
                raise ValueError("no picture was seen in the time of a measurement")
            times, kept = total / small.done, small.scratch / small.done
            output = small.output / small.done if small.ended else kept
            part, parts = small.unit(), times * (1 + len(small.units))
            fixed = small.process + max(0.0, small.first - part)  # every raw file is read for the key of its state
            return Cost(
                seconds=fixed + parts * part + (times * small.tail if small.ended else 0.0),
                output=round(total * output),
                scratch=round(total * kept),
            )

        count = f"{config.source.count:,} drawn" if isinstance(config.source, Drawn) else "all"
        return f"{count} pictures at {config.size} pixels", cost

    def _train_autoencoder(self, name: str) -> Counted:
        config = section(self._params, Autoencoder, f"autoencoders.{name}").root
        if isinstance(config, Identity):
            return "nothing to train", lambda small: Cost(seconds=small.process + small.rest, output=small.output)
        t, loss = config.train, config.loss
        alone = min(t.steps, loss.adversarial_start) if loss.adversarial_weight else t.steps

        def cost(small: Measured) -> Cost:
            return training_cost(small, t, alone, self._unseen(config.dataset, RECONSTRUCTED), small.output)

        return _steps(t), cost

    def _cache_latents(self, name: str) -> Counted:
        config = section(self._params, Latents, f"latents.{name}")

        def cost(small: Measured) -> Cost:
            splits = self._splits(config.dataset)
            rows = {split: n * (config.draws if split == "train" else 1) for split, n in splits.items()}
            batches = sum(math.ceil(n / config.batch) for n in rows.values())
            each = sum(small.units) / len(small.units) if small.units else small.first
            output = round(small.output / small.done * sum(rows.values())) if small.done else 0
            fixed = small.process + max(0.0, small.first - each) + small.tail
            return Cost(seconds=fixed + batches * each, output=output, scratch=output)

        often = f", {config.draws} times" if config.draws > 1 else ""
        return f"all pictures{often} in batches of {config.batch}", cost

    def _train_diffusion(self, name: str) -> Counted:
        config = section(self._params, Diffusion, f"diffusion.{name}")
        dataset = section(self._params, Latents, f"latents.{config.latents}").dataset

        def cost(small: Measured) -> Cost:
            weights = small.output // 2  # of the model and of its average
            output = small.output + weights * len(config.train.snapshots)
            return training_cost(small, config.train, config.train.steps, self._unseen(dataset, HELD_BACK), output)

        return _steps(config.train), cost

    def _sample(self, name: str) -> Counted:
        config = section(self._params, Samples, f"samples.{name}")
        length = section(self._params, Diffusion, f"diffusion.{config.model}").schedule.steps
        steps, batches = len(step_list(length, config)), math.ceil(config.count / config.batch)
        taken = steps + 1 if isinstance(config.sampler, PLMS) else steps

        def cost(few: Measured, more: Measured | None = None) -> Cost:
            drawn = max(FEWEST, config.batch + 1)
            batch = few.unit()
            step = max(0.0, (more.unit() - batch) / (MORE - FEW)) if more else 0.0
            each = batch + (taken - FEW) * step
            return Cost(
                seconds=few.process + max(0.0, few.first - batch) + batches * each + few.tail / drawn * config.count,
                output=round(few.output / drawn * config.count),
                scratch=round(few.scratch / math.ceil(drawn / config.batch) * batches),
            )

        return f"{config.count:,} samples in batches of {config.batch}, {steps:,} steps", cost

    def _collect(self, name: str) -> Counted:
        config = section(self._params, Method, f"methods.{name}").root

        def cost(small: Measured) -> Cost:
            times = config.count / FEWEST
            return Cost(seconds=small.process + times * small.rest, output=round(times * small.output))

        return f"{config.count:,} pictures", cost

    def _reference(self, name: str) -> Counted:
        config = section(self._params, Reference, f"evaluation.references.{name}")

        def cost(small: Measured) -> Cost:
            splits = self._splits(config.dataset)
            count = splits.get(config.split, 0)
            others = next((n for o in OPPOSITE.get(config.split, ("train",)) if (n := splits.get(o, 0)) >= FEWEST), 0)
            batches = math.ceil(count / config.batch) + math.ceil(min(count, others) / config.batch)
            return _by_batch(small, batches)

        return f"{config.split} pictures in batches of {config.batch}", cost

    def _evaluate_autoencoder(self, name: str) -> Counted:
        config = section(self._params, AutoencoderEvaluation, f"evaluation.autoencoders.{name}")

        def cost(small: Measured) -> Cost:
            count = min(config.count, self._splits(config.dataset).get(config.split, 0))
            return _by_batch(small, math.ceil(count / config.batch))

        return f"at most {config.count:,} pictures in batches of {config.batch}", cost

    def _evaluate(self, name: str) -> Counted:
        config = section(self._params, SampleEvaluation, f"evaluation.samples.{name}")
        if config.samples in self._params["samples"]:
            count = section(self._params, Samples, f"samples.{config.samples}").count
        else:
            count = section(self._params, Method, f"methods.{config.samples}").root.count

        def cost(small: Measured) -> Cost:
            batches = math.ceil(count / config.batch)
            if "neighbours" in config.figures:  # each training picture has to be seen
                batches += math.ceil(self._splits(config.dataset).get("train", 0) / config.batch)
            return _by_batch(small, batches)

        return f"{count:,} samples in batches of {config.batch}: {', '.join(config.figures)}", cost

    def _unseen(self, dataset: str, most: int) -> int:
        """Pictures that a look has to measure, of at most `most`, and that of the small training had not."""
        splits = self._splits(dataset)
        seen = min(most, round(VALIDATION * self._small.pictures))
        return max(0, min(most, splits.get("validation") or splits["train"]) - seen)

    def _splits(self, dataset: str) -> dict[str, int]:
        """Pictures in each split: as prepared, or as many as there will be, but for near-copies and bad pictures."""
        if dataset in self._current:
            return read_json(Path("data/prepared", dataset, "dataset.json"))["splits"]
        config = section(self._params, Dataset, f"datasets.{dataset}")
        if isinstance(config.source, Drawn):
            shown = (1 - len(config.source.held_out) / len(PAIRS)) ** config.source.objects
            total, held_out = shown * config.source.count, round((1 - shown) * config.source.count)
        else:
            assert self._rehearsal
            [row] = self._small.rows("prepare", dataset)
            total, held_out = self._rehearsal.measure(row).total, 0
            if not total:
                raise ValueError("how many pictures there are is known when prepare has run")
        parts = {"validation": round(config.validation * total), "test": round(config.test * total)}
        return parts | {"train": round(total) - sum(parts.values()), "held_out": held_out}


def _unmeasured(*small: Measured) -> Cost:
    raise AssertionError("such a stage has no small row")


def training_cost(small: Measured, t: Training, alone: int, unseen: int, output: int) -> Cost:
    """Of a training, from a small one, whose last step has a checkpoint in it, and whose tail is a look.

    `alone`: steps before a discriminator joins. `unseen`: pictures that each look measures besides.
    """
    step = small.unit(1, STEPS - 2)
    joined = small.unit(STEPS + 1, 2 * STEPS - 2) if len(small.units) > STEPS + 2 else step
    last = joined if len(small.units) >= STEPS else step
    save = max(0.0, small.units[-1] - last) if small.ended and small.units else 0.0
    look = small.tail + math.ceil(unseen / t.batch) * step * FORWARD
    looks, saves = math.ceil(t.steps / t.picture_every), math.ceil(t.steps / t.save_every)
    steps = alone * step + (t.steps - alone) * joined
    seconds = small.process + max(0.0, small.first - step) + steps + saves * save + looks * look
    return Cost(seconds=seconds, output=output, scratch=CHECKPOINTS * small.scratch)


def _by_batch(small: Measured, batches: int) -> Cost:
    each = small.unit()
    fixed = small.process + max(0.0, small.first - each) + small.tail
    return Cost(seconds=fixed + batches * each, output=small.output)


def _steps(t: Training) -> str:
    return f"{t.steps:,} steps of {t.batch}"
