"""DVC's graph, one stage at a time: which stages there are, in what order, which are stale, and running one of them.

And DVC's cache: all that asks DVC itself is here.
"""

import difflib
import logging
import re
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import networkx
from dvc.exceptions import CheckoutError, ConfirmRemoveError, DvcException, ReproductionError
from dvc.lock import LockError
from dvc.repo import Repo, lock_repo
from dvc.repo.reproduce import get_active_graph, plan_repro
from dvc.stage import PipelineStage
from dvc.stage.cache import RunCacheNotFoundError

from flows.references import check
from ldm.config import load

STOPPED = {signal.SIGINT, signal.SIGTERM}
"""What ends a stage that did not fail."""


class StageError(Exception):
    """A stage ended badly; others may go on."""


class Graph:
    """The stages that `targets` need, or all: their addresses in `names`, in the order of `dvc repro`.

    A target is an address (`sample@text-f4`) or the name of a stage in dvc.yaml (`sample`: every one of them). Raises
    ValueError of one line for a target that is none, and for a row of theirs that names what is not there.
    """

    def __init__(self, targets: Sequence[str] = ()) -> None:
        for file in ("params.yaml", "dvc.yaml"):
            load(file)  # says better than DVC where a file is not YAML
        logging.getLogger("dvc").setLevel(logging.ERROR)  # who walks says what is done
        self.targets = targets
        with _one_line():
            self._repo = Repo()
            graph = get_active_graph(self._repo.index.graph)
        self._stages = {stage.addressing: stage for stage in plan_repro(graph)}
        graph = networkx.relabel_nodes(graph, lambda stage: stage.addressing).reverse()
        wanted = self._named(targets)
        self._graph = graph.subgraph(wanted.union(*(networkx.ancestors(graph, name) for name in wanted)))
        self.names = [name for name in self._stages if name in self._graph]
        addresses = (name.partition("@") for name in self.names)
        check((stage, row) for stage, at, row in addresses if at)

    def needed(self, name: str) -> list[str]:
        """The stages whose outputs `name` reads."""
        return sorted(self._graph.predecessors(name))

    def upstream(self, name: str) -> set[str]:
        """All stages that have to be up to date before `name`."""
        return networkx.ancestors(self._graph, name)

    def stale(self, name: str) -> bool:
        """Whether `dvc repro` would do anything about `name`."""
        with _one_line(), lock_repo(self._repo):
            return bool(self._stages[name].changed())

    def would_run(self, force: bool = False) -> set[str]:
        """The stages that are stale, and those after them, of which some may turn out to be up to date."""
        would: set[str] = set()
        for name in self.names:
            if force or self.upstream(name) & would or self.stale(name):
                would.add(name)
        return would

    def run(self, name: str, environment: Mapping[str, str], force: bool = False) -> None:
        """What `dvc repro --single-item` does, with `environment` added to that of the stage's process.

        Raises StageError, or KeyboardInterrupt where its process was stopped.
        """
        try:
            with _one_line():
                self._repo.reproduce(name, single_item=True, force=force, run_env=dict(environment))
        except ReproductionError as error:
            cause = error.__cause__ or error
            why, ended_by = _ending(_flat(cause))
            if ended_by in STOPPED:
                raise KeyboardInterrupt from None
            raise StageError(why) from None

    def fetch_runs(self) -> None:
        """Learn from DVC's remote of what stages made elsewhere. Raises ValueError where none is configured."""
        remote = self._repo.config["core"].get("remote")
        if not remote:
            raise ValueError("no DVC remote to share outputs through; name one: dvc remote add --default shared URL")
        with _one_line(), lock_repo(self._repo):
            self._repo.stage_cache.pull(remote)

    def take_over(self, name: str) -> bool:
        """Bring `name` up to date without running it, from here or from DVC's remote; whether that could be done.

        What was run elsewhere is known after `fetch_runs`, and only where everything that `name` needs is up to date.
        """
        with _one_line():
            if not self.stale(name):
                return True
            if not isinstance(self._stages[name], PipelineStage):
                self._repo.pull([name])
                return True
            with lock_repo(self._repo):
                stage = self._repo.stage.load_one("dvc.yaml", name)  # anew: what follows changes it
                try:
                    self._repo.stage_cache.restore(stage, pull=True)
                except RunCacheNotFoundError:
                    return False
                except (CheckoutError, ConfirmRemoveError):
                    pass  # what a killed stage left lies there, which DVC removes when it reproduces
            self._repo.reproduce(name, single_item=True)  # finds the run in its cache, and writes dvc.lock
        return True

    def push(self, name: str) -> None:
        """Give DVC's remote the outputs of `name`, and the note of the run that made them."""
        with _one_line():
            self._repo.push([name], run_cache=True)

    def _named(self, targets: Sequence[str]) -> set[str]:
        if not targets:
            return {name for name, stage in self._stages.items() if isinstance(stage, PipelineStage)}
        known = {*self._stages, *(name.partition("@")[0] for name in self._stages)}
        for target in targets:
            if target not in known:
                near = difflib.get_close_matches(target, sorted(known), n=1)
                hint = f"did you mean '{near[0]}'?" if near else "`dvc stage list` shows them"
                raise ValueError(f"dvc.yaml: no stage '{target}', {hint}")
        return {name for name in self._stages if {name, name.partition("@")[0]} & {*targets}}


class Cache:
    """What DVC keeps of outputs, of this revision and of others."""

    def __init__(self) -> None:
        logging.getLogger("dvc").setLevel(logging.ERROR)
        with _one_line():
            self._repo = Repo()
        self.folder = Path(self._repo.cache.local.path)
        self.shared = not self.folder.is_relative_to(self._repo.root_dir)
        """With other projects, perhaps, of which DVC does not know what they use."""

    def unused(self) -> list[Path]:
        """Files that `dvc gc --workspace` would remove: those that no .dvc file and no dvc.lock here names."""
        with _one_line(), lock_repo(self._repo):
            used = {found.value for all_of in self._repo.used_objs().values() for found in all_of}
            stores = {id(store): store for _, store in self._repo.cache.by_scheme() if store}
            return [Path(s.oid_to_path(oid)) for s in stores.values() for oid in s.all() if oid not in used]

    def collect(self) -> None:
        """Remove them."""
        with _one_line():
            self._repo.gc(workspace=True)


@contextmanager
def _one_line() -> Iterator[None]:
    """What DVC has to say, but for a stage's own failure, as a ValueError of one line."""
    try:
        yield
    except DvcException as error:
        cause = error.__cause__ if isinstance(error, ReproductionError) else error
        if isinstance(cause, LockError):
            who = re.search(r"\(PID \d+\): .*", str(cause))
            raise ValueError(
                f"another DVC command is at work here{f' {who[0]}' if who else ''}; wait for it, then repeat this one"
            ) from None
        if cause is error:
            raise ValueError(_flat(error)) from None
        raise


def _ending(why: str) -> tuple[str, signal.Signals | None]:
    """DVC's words for a stage that ended badly, and the signal that ended it.

    Which number stands in them is the shell's affair: one that replaces itself by the stage says -9 where another,
    which waits for it, says 137.
    """
    start, _, code = why.rpartition("exited with ")
    for ended_by in signal.Signals:
        if code in {str(-ended_by), str(128 + ended_by)}:
            return f"{start}killed by {ended_by.name}", ended_by
    return why, None


def _flat(error: BaseException) -> str:
    return " ".join(str(error).split())
