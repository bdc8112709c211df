"""From options of the command line to the section that says how pictures are drawn."""

from typing import Any

from ldm.cli import options
from ldm.cli.models import Opened
from ldm.config import check
from ldm.sampling.config import Drawing
from ldm.sampling.plan import step_list

STEPS = 50
GUIDANCE = 3.0


def drawing(opened: Opened, how: options.How, **more: Any) -> Drawing:
    """`more`: keys of the section that only one command has."""
    values: dict[str, Any] = {"seed": 0, "guidance": _guidance(opened, how.guidance), "patches": _patches(opened, how)}
    values["tile"] = how.tile
    values |= {key: value for key, value in more.items() if value is not None}
    every = _section(values | {"sampler": {"kind": "ddpm"}})
    steps = len(step_list(len(opened.model.schedule), every))
    return _section(values | {"sampler": _sampler(how, steps)})


def _section(values: dict[str, Any]) -> Drawing:
    return check(values, Drawing, "", file="")


def _sampler(how: options.How, available: int) -> dict[str, Any]:
    kind = how.sampler.value
    if how.eta is not None and kind != "ddim":
        raise ValueError(f"--eta is of ddim: leave it out with --sampler {kind}")
    spaced = {"spacing": how.spacing.value} if how.spacing != options.Spacing.even else {}
    if spaced and kind not in ("ddim", "plms"):
        raise ValueError(f"--spacing is of ddim and plms: leave it out with --sampler {kind}")
    if kind == "ddpm":
        if how.steps is not None:
            raise ValueError("--sampler ddpm takes every step of the schedule: leave out --steps, or choose ddim")
        return {"kind": kind}
    steps = {"kind": kind, "num_steps": how.steps or min(STEPS, available)} | spaced
    return steps | ({"eta": float(how.eta or 0)} if kind == "ddim" else {})


def _guidance(opened: Opened, wanted: float | None) -> float:
    if wanted is not None:
        return float(wanted)
    return GUIDANCE if opened.model.conditioner.drops[0] else 1.0


def _patches(opened: Opened, how: options.How) -> dict[str, int] | None:
    if how.patches is None:
        if how.overlap is not None:
            raise ValueError("--overlap is of --patches: say both")
        return None
    if how.patches % opened.multiple:
        raise ValueError(f"--patches {how.patches}: must be a multiple of {opened.multiple} for {opened.name}")
    return {"size": how.patches, "overlap": how.patches // 4 if how.overlap is None else how.overlap}


def parsed_size(text: str | None, multiple: int) -> tuple[int, int] | None:
    """Height and width of `256x384`, or of `256` for a square."""
    if text is None:
        return None
    sides = text.lower().split("x")
    if len(sides) not in (1, 2) or not all(side.isdecimal() and int(side) for side in sides):
        raise ValueError(f"--size {text}: expected HEIGHTxWIDTH in pixels, such as 256x384")
    height, width = int(sides[0]), int(sides[-1])
    if height % multiple or width % multiple:
        raise ValueError(f"--size {text}: height and width must be multiples of {multiple} for this model")
    return height, width
