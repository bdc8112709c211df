"""The section of one preference study: `studies.NAME` in params.yaml."""

from typing import Literal

from pydantic import Field, model_validator

from ldm.config import Section

Task = Literal["super_resolution", "inpainting", "any"]

QUESTIONS: dict[Task, str] = {
    "super_resolution": (
        "Which of the two images is the better high-quality version of the low-resolution image in the middle?"
    ),
    "inpainting": "Which of the two images has the more realistic inpainted regions of the image in the middle?",
    "any": "Which of the two images looks better?",
}
"""What the rater is asked where the section says `question: default`; the first two after the paper's."""
CONSENT = (
    "Taking part is voluntary, and you may stop at any time. Your choices and the time they take are stored under a "
    "random number, without your name or address, and may be published in this anonymous form."
)
"""What the rater reads before beginning where the section says `consent: default`."""
NO_COMPLETION = "none"


class Study(Section):
    """Which pictures are compared, and how they are shown."""

    task: Task
    """super_resolution: the low-resolution image stands between the two; inpainting: the picture with its hole does;
    any: the two alone."""
    dataset: str
    """The prepared data set that holds the originals."""
    first: str
    """A name of samples."""
    second: str
    """Another name of samples, made for the same originals."""
    trials: int = Field(ge=1)
    """Pairs that a rater sees of each comparison: first | original and second | original (task 1), first | second
    (task 2)."""
    question: str = Field(min_length=1)
    """What the rater is asked. `default`: the words of `QUESTIONS` for the task."""
    seconds: float = Field(gt=0, le=60)
    """How long a pair is shown before it is hidden and the rater answers; 3 in the paper."""
    enlarge: int = Field(ge=1, le=64)
    """Show every picture this many times larger, by nearest neighbour."""
    practice: int = Field(ge=0, le=10)
    """Pairs shown first that are not recorded: an original beside a mosaic of it."""
    catch: int = Field(ge=0)
    """Attention checks strewn among the trials: pairs of the practice's kind, with one evident answer."""
    catch_pass: float = Field(ge=0, le=1)
    """A rater who gets a smaller part of the attention checks right is left out: fixed before any answer is seen."""
    consent: str = Field(min_length=1)
    """What the rater reads and agrees to before beginning. `default`: the words of `CONSENT`."""
    hand_in: str
    """Said to the rater at the end, beside the file of answers: where to send it."""
    completion: str = Field(default=NO_COMPLETION, min_length=1)
    """What `ldm study serve` gives the rater at the end, for the platform that sent them: a code, or an address that
    the page then goes to."""
    seed: int = Field(ge=0)

    @model_validator(mode="after")
    def _two_methods(self) -> "Study":
        if self.first == self.second:
            raise ValueError(f"first and second are both '{self.first}': name two different samples")
        return self

    @property
    def words(self) -> str:
        """The question as it is asked."""
        return QUESTIONS[self.task] if self.question == "default" else self.question

    @property
    def agreement(self) -> str:
        """The consent as it is shown."""
        return CONSENT if self.consent == "default" else self.consent

    @property
    def originals(self) -> int:
        """How many it needs, for no rater sees one twice."""
        return 3 * self.trials + self.catch + self.practice
