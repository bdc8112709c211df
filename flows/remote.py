"""Run one stage on a machine of its own: DVC's remote gives what it reads, and is given what it makes.

The same as `dvc repro` there, but that what the stage needs is never run: it has to be in the remote, or here.
"""

import argparse
import sys

from flows.graph import Graph, StageError
from flows.pipeline import passing_on_sigterm
from flows.stage import explain, mendable


def one(target: str) -> None:
    """Run the stage of the address `target`, unless the remote has its outputs already.

    Raises ValueError of one line where something it needs was not run yet, StageError where it failed.
    """
    graph = Graph([target])
    *needed, last = graph.names
    if last != target:
        raise ValueError(f"'{target}' is every {target} of params.yaml; name one, as {last}")
    graph.fetch_runs()
    for name in needed:
        if not graph.take_over(name):
            raise ValueError(f"the remote has no outputs of {name}; run it first: python -m flows.remote {name}")
    if graph.take_over(target):
        print(f"{target}: was run already; its outputs are here", flush=True)
        return
    with passing_on_sigterm() as stopped:
        graph.run(target, {})
        if stopped.is_set():
            raise KeyboardInterrupt
    graph.push(target)
    print(f"{target}: done, and in the remote", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m flows.remote", description=(__doc__ or "").strip())
    parser.add_argument("target", metavar="STAGE@NAME", help="a stage, as `dvc stage list` shows it")
    target = parser.parse_args().target
    try:
        one(target)
    except KeyboardInterrupt:
        print(f"{target}: stopped; the same command goes on from the last saved state", file=sys.stderr)
        return 130
    except StageError as error:
        print(f"{target}: {error}", file=sys.stderr)
        return 1
    except Exception as error:
        if not mendable(error):
            raise
        print(f"{target}: {explain(error)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
