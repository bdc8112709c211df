"""What can go wrong, done on purpose: `python -m torture` (`make torture`), minutes to hours, no part of the tests.

A family of faults is a module with a function `faults(bench)` that yields a `Fault` for each kind that it tried. All
work on temporary copies of this project with presets/smoke.yaml; nothing in `ldm` or `flows` knows of them.
"""
