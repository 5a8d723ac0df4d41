"""Shards of a screen as results on disk: here, in local processes or on a cluster; resumable."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from spatialformer_core import files
from spatialformer_core.arrays import LongArray
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.jobs import Engine, ShardFolders, ShardTask, result_key, run_shards
from spatialformer_core.perturbation.plan import GenePairIndex
from spatialformer_core.perturbation.screened import only
from spatialformer_core.perturbation.shards import (
    EXACT,
    FIRST,
    SECOND,
    Shard,
    Tallies,
    Work,
    load,
    make,
    plan_key,
    save,
)
from spatialformer_core.progress import Cancel, Progress

_REVISION = 2
_MAKE = f"{__name__}:make_one"
_CANDIDATES = "candidates.json"

Loader = Callable[[dict[str, Any], int, Cancel], Work]
"""Makes the work of a screen in another process, from JSON parameters and the shard's number."""


@dataclass(frozen=True, slots=True)
class Farm:
    """Where the shards of a screen are kept and made.

    Attributes
    ----------
    folder
        Holds finished shards; a run that was stopped goes on with those that are missing.
    loader
        ``"module:function"``, a `Loader`; not needed if all is made in this process.
    params
        JSON parameters of the loader.
    key
        JSON values that decide the scores: checkpoint, slides, settings.
    engine
        In which processes.
    n_shards
        About how many; None: by their cost.
    """

    folder: Path
    loader: str = ""
    params: dict[str, Any] = field(default_factory=dict)
    key: Any = None
    engine: Engine = field(default_factory=Engine)
    n_shards: int | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """A screen that is being made shard by shard.

    Attributes
    ----------
    work, shards
        What is made.
    farm
        Where; None keeps the sums of an exact screen in memory alone.
    progress, cancel
        As everywhere.
    """

    work: Work
    shards: Sequence[Shard]
    farm: Farm | None
    progress: Progress
    cancel: Cancel

    def exact(self) -> tuple[Tallies, dict[str, Any]]:
        """Return the sums of all exact effects, and facts."""
        if self.farm is not None:
            self._on_disk(self.farm, EXACT, None)
            return self._merged(self.farm, EXACT, self.work.plan.index)
        total = self._empty(self.work.plan.index)
        facts = []
        for shard in self.shards:
            made = make(self.work, EXACT, shard)
            total.merge(made.tallies, made.units)
            facts.append(made.facts)
        return total, _together(facts)

    def screened(
        self, choose: Callable[[Tallies], LongArray]
    ) -> tuple[Tallies, LongArray, dict[str, Any]]:
        """Return sums that are exact for the chosen gene pairs, which these are, and facts.

        The other gene pairs keep approximate sums: for the spread that tests share, not for
        reports.
        """
        with ExitStack() as stack:
            farm = self.farm
            if farm is None:
                farm = Farm(Path(stack.enter_context(tempfile.TemporaryDirectory())))
            self._on_disk(farm, FIRST, None)
            total, first = self._merged(farm, FIRST, self.work.plan.index)
            slots = choose(total)
            files.write_json(farm.folder / _CANDIDATES, slots.tolist())
            self._on_disk(farm, SECOND, slots)
            exact, second = self._merged(farm, SECOND, only(self.work.plan.index, slots))
        total.put(exact, slots)
        return total, slots, _together([first, second])

    def _empty(self, index: GenePairIndex) -> Tallies:
        return Tallies.empty(index, len(self.work.plan.unit_names), controls=self.work.controls)

    def _merged(
        self, farm: Farm, stage: str, index: GenePairIndex
    ) -> tuple[Tallies, dict[str, Any]]:
        # Always in the order of the shards: sums of floats depend on it.
        total = self._empty(index)
        facts = []
        for shard in self.shards:
            made = load(farm.folder / stage / shard.name, index)
            total.merge(made.tallies, made.units)
            facts.append(made.facts)
        return total, _together(facts)

    def _on_disk(self, farm: Farm, stage: str, slots: LongArray | None) -> None:
        decides = {"revision": _REVISION, "stage": stage, "farm": farm.key}
        decides["plan"] = plan_key(self.work)
        decides["shards"] = [[shard.start, shard.stop] for shard in self.shards]
        decides["slots"] = None if slots is None else slots.tolist()
        name = result_key(decides["plan"])
        params = {"work": name, "loader": farm.loader, "params": farm.params}
        params |= {"stage": stage, "folder": str(farm.folder)}
        key = result_key(decides)
        tasks = [
            ShardTask(
                shard.name,
                {**params, "shard": [shard.number, shard.start, shard.stop]},
                result_key([key, shard.number]),
            )
            for shard in self.shards
        ]
        folders = ShardFolders(farm.folder / stage, farm.folder / f".state-{stage}")
        _opened.clear()
        _opened[name] = self.work
        try:
            run_shards(
                _MAKE,
                tasks,
                folders,
                engine=farm.engine,
                progress=self.progress,
                cancel=self.cancel,
            )
        finally:
            _opened.clear()


_opened: dict[str, Work] = {}
"""The work that this process holds; a shard in a process of its own loads it."""


def make_one(params: dict[str, Any], out: Path, cancel: Cancel) -> None:
    """Make one shard and write what it leaves (see `jobs.shards.ShardFunction`)."""
    shard = Shard(*params["shard"])
    work = _opened.get(params["work"])
    if work is None:
        module, _, name = params["loader"].partition(":")
        loader: Loader = getattr(importlib.import_module(module), name)
        work = loader(params["params"], shard.number, cancel)
        if result_key(plan_key(work)) != params["work"]:
            raise SpatialFormerError(
                "The slides are not what they were when the screen began.",
                fix="Start it anew: its shards would not fit together.",
            )
    work.evaluator.cancel = cancel
    slots, first = None, None
    if params["stage"] == SECOND:
        folder = Path(params["folder"])
        slots = np.array(files.read_json(folder / _CANDIDATES), np.int64)
        first = load(folder / FIRST / shard.name, work.plan.index)
    save(make(work, params["stage"], shard, slots, first), out)


def _together(facts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        "encodings": sum(one["encodings"] for one in facts),
        "evaluations": sum(one["evaluations"] for one in facts),
        "recall": [row for one in facts for row in one["recall"]],
    }


__all__ = ["Farm", "Loader", "Run", "make_one"]
