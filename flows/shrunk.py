"""params.yaml made small enough to run in seconds: what costs (sizes, widths, batches) stays, its repetitions go.

Drawn scenes take the place of every data set, for they come in any size and with every kind of condition.
"""

import json
from typing import Any

from ldm.autoencoder.config import Autoencoder, Identity, Latents
from ldm.config import Run, lookup, section
from ldm.diffusion.config import Diffusion
from ldm.evaluation.config import AutoencoderEvaluation, Reference, SampleEvaluation
from ldm.sampling.config import BicubicMethod, Method, Samples
from ldm.sources.config import Dataset, Drawn

STEPS = 10
"""Of a training; as many again with the discriminator, where one joins."""
FEW, MORE = 1, 4
"""Steps of a sampler: by the difference one knows what a step takes, without the decoder."""
PICTURES = 48
VALIDATION, TEST = 0.15, 0.25
FEWEST = 8
"""Samples that can be evaluated."""


class Shrunk:
    """Small rows, each distinct one once, as they are asked for.

    `made` has the stage and the row of each small name, in the order in which they have to be run. Raises ValueError of
    one line for a row that is not valid, and for what cannot be made small.
    """

    def __init__(self, params: dict[str, Any]) -> None:
        section(params, Run, "run")
        self._given = params
        self._known: dict[str, str] = {}
        self._tables: dict[str, dict[str, Any]] = {}
        self.made: dict[str, tuple[str, dict[str, Any]]] = {}
        self.linked: set[str] = set()
        """Folders that no stage makes, such as imported models."""

    @property
    def params(self) -> dict[str, Any]:
        """A whole params.yaml of the rows so far."""
        whole: dict[str, Any] = {"run": self._given["run"]}
        for place, rows in self._tables.items():
            table, _, below = place.partition(".")
            whole[table] = whole.get(table, {}) | ({below: rows} if below else rows)
        return whole

    @property
    def pictures(self) -> int:
        """In a small data set: their training split fills a batch of any latents."""
        batch = max((row["batch"] for row in (self._given.get("latents") or {}).values()), default=0)
        return max(PICTURES, 2 * batch)

    def rows(self, stage: str, name: str) -> list[str]:
        """Names of the small rows by which `name` is known: one, or two for samples, of few and of more steps."""
        match stage:
            case "prepare":
                return [self._prepare(name)]
            case "train_autoencoder":
                return [self._train_autoencoder(name)]
            case "cache_latents":
                return [self._cache_latents(name)]
            case "train_diffusion":
                return [self._train_diffusion(name)]
            case "sample":
                return [self._sample(name, steps) for steps in (FEW, MORE) if steps <= self._longest(name)]
            case "collect":
                return [self._collect(name)]
            case "reference":
                return [self._reference(name)]
            case "evaluate_autoencoder":
                return [self._evaluate_autoencoder(name)]
            case "evaluate":
                return [self._evaluate(name)]
        raise ValueError("it only reads what the others made")

    def _prepare(self, name: str) -> str:
        """The row's own pictures, where `_drawn` is what all others are made from."""
        row, config = self._row("datasets", name), section(self._given, Dataset, f"datasets.{name}")
        if isinstance(config.source, Drawn):
            few = {"count": min(config.source.count, 4 * PICTURES), "held_out": []}
            row["source"] = row["source"] | few
        return self._add("prepare", "datasets", name, row)

    def _drawn(self, name: str) -> str:
        config = section(self._given, Dataset, f"datasets.{name}")
        source = {"kind": "drawn", "count": self.pictures, "objects": 1, "seed": 0, "held_out": []}
        row = {"raw": "data/raw/none", "source": source, "size": config.size, "on_bad_image": "stop"}
        return self._add("prepare", "datasets", name, row | {"validation": VALIDATION, "test": TEST})

    def _train_autoencoder(self, name: str) -> str:
        if name not in lookup(self._given, "autoencoders"):
            return self._link("models/autoencoders", name)
        config = section(self._given, Autoencoder, f"autoencoders.{name}").root
        row = self._row("autoencoders", name) | {"dataset": self._drawn(config.dataset), "init_from": "none"}
        if not isinstance(config, Identity):
            joins = config.loss.adversarial_weight > 0 and config.loss.adversarial_start < config.train.steps
            row["loss"] = row["loss"] | {"adversarial_start": STEPS}
            row["train"] = _few_steps(row["train"], 2 * STEPS if joins else STEPS) | {"flip": False}
        return self._add("train_autoencoder", "autoencoders", name, row)

    def _cache_latents(self, name: str) -> str:
        config = section(self._given, Latents, f"latents.{name}")
        made_from = {"dataset": self._drawn(config.dataset), "autoencoder": self._train_autoencoder(config.autoencoder)}
        row = self._row("latents", name) | made_from | {"draws": 1, "flip": False, "seed": 0}
        return self._add("cache_latents", "latents", name, row)

    def _train_diffusion(self, name: str) -> str:
        if name not in lookup(self._given, "diffusion"):
            raise ValueError(f"models/diffusion/{name} is no row of params.yaml, so it has no small one")
        config = section(self._given, Diffusion, f"diffusion.{name}")
        row = self._row("diffusion", name) | {
            "latents": self._cache_latents(config.latents),
            "autoencoder": self._train_autoencoder(config.autoencoder),
            "init_from": "none",
        }
        row["train"] = _few_steps(row["train"], STEPS)
        return self._add("train_diffusion", "diffusion", name, row)

    def _sample(self, name: str, num_steps: int) -> str:
        """A batch, and a second one begun: drawn whole all the same."""
        config = section(self._given, Samples, f"samples.{name}")
        row = self._row("samples", name) | {
            "model": self._train_diffusion(config.model),
            "autoencoder": self._train_autoencoder(config.autoencoder),
            "latents": self._cache_latents(config.latents),
            "classifier": "none" if config.classifier == "none" else self._train_diffusion(config.classifier),
            "sampler": {"kind": "ddim", "num_steps": num_steps, "eta": 0.0},
            "split": "test",
            "count": max(FEWEST, config.batch + 1),
            "seed": 0,
            "snapshot": None,
        }
        return self._add("sample", "samples", name, row)

    def _longest(self, name: str) -> int:
        config = section(self._given, Samples, f"samples.{name}")
        steps = section(self._given, Diffusion, f"diffusion.{config.model}").schedule.steps
        return steps if config.start is None else max(1, round(config.start.strength * steps))

    def _collect(self, name: str) -> str:
        config = section(self._given, Method, f"methods.{name}").root
        if not isinstance(config, BicubicMethod):
            raise ValueError("reads another program's pictures")
        row = {"latents": self._cache_latents(config.latents), "split": "test", "count": FEWEST}
        return self._add("collect", "methods", name, self._row("methods", name) | row)

    def _reference(self, name: str) -> str:
        config = section(self._given, Reference, f"evaluation.references.{name}")
        row = self._row("evaluation.references", name) | {"dataset": self._drawn(config.dataset), "split": "test"}
        return self._add("reference", "evaluation.references", name, row)

    def _evaluate_autoencoder(self, name: str) -> str:
        config = section(self._given, AutoencoderEvaluation, f"evaluation.autoencoders.{name}")
        row = self._row("evaluation.autoencoders", name) | {
            "autoencoder": self._train_autoencoder(config.autoencoder),
            "dataset": self._drawn(config.dataset),
            "reference": self._reference(config.reference),
            "split": "test",
        }
        return self._add("evaluate_autoencoder", "evaluation.autoencoders", name, row)

    def _evaluate(self, name: str) -> str:
        config = section(self._given, SampleEvaluation, f"evaluation.samples.{name}")
        of_model = config.samples in lookup(self._given, "samples")
        row = self._row("evaluation.samples", name) | {
            "samples": self._sample(config.samples, FEW) if of_model else self._collect(config.samples),
            "dataset": self._drawn(config.dataset),
            "reference": self._reference(config.reference),
        }
        return self._add("evaluate", "evaluation.samples", name, row)

    def _row(self, table: str, name: str) -> dict[str, Any]:
        return dict(lookup(self._given, f"{table}.{name}"))

    def _add(self, stage: str, table: str, given: str, row: dict[str, Any]) -> str:
        key = json.dumps([table, row], sort_keys=True)
        if key not in self._known:
            name = f"{given}~{len(self._known)}"
            self._known[key] = name
            self._tables.setdefault(table, {})[name] = row
            self.made[name] = stage, row
        return self._known[key]

    def _link(self, place: str, name: str) -> str:
        self.linked.add(f"{place}/{name}")
        return name


def _few_steps(train: dict[str, Any], steps: int) -> dict[str, Any]:
    """Without looks and checkpoints before the end, at a rate that moves nothing."""
    kept = {key: value for key, value in train.items() if not key.startswith(("decay_", "warmup_", "snapshots"))}
    few = {"steps": steps, "warmup": 0, "decay": "none", "save_every": steps, "picture_every": steps}
    return kept | few | {"lr": 1e-6, "seed": 0}
