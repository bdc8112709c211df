"""The stages as Prefect flows: one module a stage, started by DVC as `python -m flows.STAGE NAME`.

The CPU's code paths and libraries' threads are chosen the moment torch is imported, and they change floating-point
sums. So importing this package, which happens before any of its modules, sets them from `run` in params.yaml.
"""

import os

from ldm.config import Run, load, section

AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_CBWR": "AVX2"}


def _choose_numerics() -> None:
    try:
        run = section(load(), Run, "run")
    except ValueError:
        return  # the stage reads it again and says what is wrong
    threads = str(run.threads)
    os.environ.update(OMP_NUM_THREADS=threads, MKL_NUM_THREADS=threads)
    for name, cap in AVX2.items():
        os.environ.pop(name, None)  # the parameter decides, not whoever called
        if run.instructions == "avx2":
            os.environ[name] = cap
    if run.mode == "exact":
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"


_choose_numerics()
