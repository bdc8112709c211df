"""What samples were drawn from: what the model was told, and what a guide told it that it does not know."""

from ldm.report.collect import Samples

GUIDES = {
    "classifier": "label",
    "clip": "text",
    "low_resolution": "low_resolution",
    "masked": "mask",
    "grey": "grey",
    "identity": "picture",
}
"""What each kind of guide tells; `small` tells nothing that was not drawn."""
TOLD_BY_PICTURES = ("low_resolution", "mask", "grey", "picture")
"""Of these, what is a part of a row's own picture."""


def condition_of(samples: Samples) -> str:
    """What one chooses a table by: the kind of channels, else of tokens, else of what the guide told."""
    told = "mask" if samples.about.get("keep_known", False) else samples.told("channels")
    if told == "none":
        told = samples.told("tokens")
    if told == "none" and _guided(samples) != "picture":
        told = _guided(samples) or "none"
    return "text" if told == "clip_text" else told


def held_to_pictures(samples: Samples) -> bool:
    """Whether samples were given more of the rows' own pictures than their condition says."""
    told = _guided(samples)
    return samples.about.get("start") is not None or (told in TOLD_BY_PICTURES and told != condition_of(samples))


def conditions_of(samples: Samples) -> list[str]:
    """Everything that the sampling was told, tokens first; `picture` where samples were held to the rows' own."""
    told = [samples.told("tokens"), samples.told("channels")]
    if samples.about.get("keep_known", False):
        told.append("mask")
    if held_to_pictures(samples):
        told.append("picture")
    elif guided := _guided(samples):
        told.append(guided)
    return list(dict.fromkeys(kind for kind in told if kind != "none"))


def prompted(samples: Samples) -> bool:
    """Whether each sample had a prompt of its own, the row's caption."""
    guide = samples.about.table("guide")
    return "text" in samples.told("tokens") or (guide.get("kind") == "clip" and guide.get("prompt") is None)


def _guided(samples: Samples) -> str:
    return GUIDES.get(str(samples.about.table("guide").get("kind")), "")
