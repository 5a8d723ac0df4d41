"""People who look at pages while a screen runs on the same machine."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from spatialformer_core.bench.app_stage import LASSO_CELLS, prepared
from spatialformer_core.bench.options import BenchOptions
from spatialformer_core.bench.rows import Row, bounded
from spatialformer_core.bench.visitors import Data, OpenPage, Server, serving
from spatialformer_core.errors import SpatialFormerError

if TYPE_CHECKING:
    from spatialformer_core.jobs import Job

PEOPLE = 10
_PAGES = (
    *("slides", "tissue", "gene_pairs", "neighbours"),
    *("tissue", "embedding", "perturbation", "models", "jobs"),
)
_THINKS_S = (2.0, 4.0)
_STAYS_S = 60.0
_STARTS_WITHIN_S = 600.0
_SCREENS = 20
"""Screens that wait one behind the other, each of its own seed, so that one runs at all times."""

_CHECKPOINT = "demo-two-tower"
_OWNER = "bench"
_TYPES = ("Macrophage", "T cell")


def browsing(options: BenchOptions) -> list[Row]:
    """Let ten people go from page to page while a screen runs in the background."""
    home, large = prepared(options)
    _, small = prepared(options, LASSO_CELLS)
    with serving(home) as server:
        screens = _Screens(home, small.meta.slide_id)
        try:
            screens.wait_until_one_runs()
            seconds = _browse(server, large.meta.slide_id, _STAYS_S * options.scale**0.5)
            left = screens.are_left()
        finally:
            screens.end()
    if not left:
        raise SpatialFormerError("The screens ended before the visits did.", where="bench")
    unit = f"s, 95th percentile of {len(seconds)} pages, {PEOPLE} people"
    return [
        bounded("app", "browsing_page", float(np.quantile(seconds, 0.95)), unit, at_most=1.0),
        bounded("app", "browsing_page_median", float(np.median(seconds)), "s"),
    ]


class _Screens:
    """Screens in the app's own queue, of another slide than the one that is looked at."""

    def __init__(self, home: Path, slide_id: str) -> None:
        from spatialformer_core.perturbation import ScreenRequest
        from spatialformer_core.service import open_services

        self._services = open_services(home)
        # What an interrupted run left would be carried out first.
        for job in self._services.jobs(_OWNER):
            self._services.cancel(job.id)
        request = ScreenRequest(
            slide_ids=(slide_id,),
            groupby="cell_type",
            group_left=_TYPES[0],
            group_right=_TYPES[1],
            checkpoint_id=_CHECKPOINT,
            allow_simulated=True,
        )
        self._ids = [
            self._services.submit_screen(request.model_copy(update={"seed": seed}), _OWNER)
            for seed in range(_SCREENS)
        ]

    def are_left(self) -> bool:
        """Return whether the last one is still to come or runs, and none of them failed."""
        jobs = self._jobs()
        return not jobs[-1].is_ended and not any(job.error for job in jobs)

    def wait_until_one_runs(self) -> None:
        deadline = time.monotonic() + _STARTS_WITHIN_S
        while (job := self._services.job(self._ids[0])).share <= 0:
            if job.is_ended or time.monotonic() > deadline:
                said = job.error or f"it is {job.status}"
                raise SpatialFormerError(f"The screen does not run: {said}", where="bench")
            time.sleep(0.5)

    def end(self) -> None:
        # The last first: none starts because the one before it was cancelled.
        for job_id in reversed(self._ids):
            self._services.cancel(job_id)
        deadline = time.monotonic() + 20
        while not all(job.is_ended for job in self._jobs()) and time.monotonic() < deadline:
            time.sleep(0.2)

    def _jobs(self) -> list[Job]:
        return [self._services.job(job_id) for job_id in self._ids]


def _browse(server: Server, slide_id: str, stays_s: float) -> list[float]:
    leave_at = time.monotonic() + stays_s

    def person(number: int) -> list[float]:
        seconds = []
        rng = np.random.default_rng(number)
        time.sleep(rng.uniform(0, _THINKS_S[1]))
        turn = number
        while time.monotonic() < leave_at:
            seconds.append(_look(server, _PAGES[turn % len(_PAGES)], slide_id))
            turn += 1
            time.sleep(rng.uniform(*_THINKS_S))
        return seconds

    # Nobody is the first on a page: the server has imported what each one needs.
    for page in dict.fromkeys(_PAGES):
        _look(server, page, slide_id)
    with ThreadPoolExecutor(PEOPLE) as pool:
        return [value for seconds in pool.map(person, range(PEOPLE)) for value in seconds]


def _look(server: Server, page: str, slide_id: str) -> float:
    """Open a page, on *Tissue* with its cells and colours; return the seconds of waiting."""
    opened = OpenPage(server.port, page, f"slide={slide_id}")
    seconds = opened.visit.page_s
    if opened.visit.viewer:
        data = Data(server.port, opened.visit.viewer)
        for path in ("info.json", "points.bin", "group/cell_type.bin"):
            seconds += data.fetch(path)[0]
        data.close()
        seconds += opened.drawn(slide_id)
    opened.close()
    return seconds
