"""Which steps of a schedule a sampler takes."""

from typing import Literal


def time_steps(length: int, num_steps: int, spacing: Literal["even", "released"] = "even") -> list[int]:
    """`num_steps` different steps of 0..length - 1, falling.

    even: from the schedule's last step on, for any count. released: i * floor(length / num_steps) + 1, as the authors'
    code has them, where a count that does not fit gives other steps than asked, or one beyond the schedule: refused.
    """
    if not 1 <= num_steps <= length:
        raise ValueError(f"num_steps {num_steps} must be from 1 to the schedule's {length} steps")
    if spacing == "even":
        return [length * (i + 1) // num_steps - 1 for i in reversed(range(num_steps))]
    steps = [step + 1 for step in range(0, length, length // num_steps)]
    if len(steps) != num_steps or steps[-1] >= length:
        raise ValueError(
            f"num_steps {num_steps} with spacing released would take {len(steps)} steps up to {steps[-1]} of the "
            f"schedule's {length}; use a divisor of {length} up to {length // 2}, or spacing: even"
        )
    return steps[::-1]
