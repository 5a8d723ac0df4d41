"""A page that asks for a job and shows what came of it: Gene pairs, Neighbours, Screens, maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import streamlit as st

from pages.ui import progress
from pages.ui.job_titles import title
from pages.ui.session import errors_shown, link, linked, owner, remember, services
from spatialformer_core.errors import SpatialFormerError

if TYPE_CHECKING:
    from spatialformer_core.service import Job

Request = TypeVar("Request")


@dataclass(frozen=True, slots=True)
class ResultPage:
    """What one of these pages has of its own.

    Attributes
    ----------
    kind
        Of its jobs.
    name
        What its link calls a job (``?screen=...``).
    one
        What people call such a job; an ``s`` makes it several.
    """

    kind: str
    name: str
    one: str

    def jobs(self) -> list[Job]:
        """Return the visitor's jobs of this page, newest first."""
        return progress.jobs_of(self.kind)

    def start_button(self, label: str, submit: Callable[[], str]) -> None:
        """Draw the button that starts a job; the page's link then shows that job."""
        if st.button(label, type="primary", icon=":material/play_arrow:", width="stretch"):
            self.started(submit)

    def started(self, submit: Callable[[], str], how: str = "is started") -> None:
        """Start a job, and draw the page anew with it."""
        with errors_shown():
            link(self.name, submit())
            remember(f"The {self.one} {how}.")
            st.rerun()

    def shown(self, jobs: Sequence[Job]) -> str | None:
        """Return the id of the job of the link, else of the newest that is done."""
        done = (job.id for job in jobs if job.status == "done")
        return linked(self.name) or next(done, None)

    def results(self, jobs: Sequence[Job], draw: Callable[[Job], None]) -> None:
        """Draw what runs, what ran before, and the result of `shown` or why it has none.

        Parameters
        ----------
        jobs
            Those that are offered, newest first.
        draw
            Draws the result of a job that is done.
        """
        progress.active_jobs(self.kind, title)
        chosen = self.shown(jobs)
        self._history([job for job in jobs if job.is_ended], chosen)
        if chosen is None:
            return
        job = services().job(chosen, owner())
        if job.kind != self.kind:
            raise SpatialFormerError(
                f"Job {job.id} is no {self.one}.", fix="Open it from the page Jobs."
            )
        if job.status == "done":
            st.subheader(title(job), anchor=False)
            draw(job)
        elif job.is_ended:
            progress.failure(job, title(job))

    def _history(self, ended: Sequence[Job], chosen: str | None) -> None:
        if not ended:
            return
        with st.expander(f"Previous {self.one}s ({len(ended)})", icon=":material/history:"):
            asked = progress.table_of(ended, title, chosen)
            if asked:
                link(self.name, asked)
                st.rerun()


GENE_PAIRS = ResultPage("gene-pairs", "pairs", "comparison")
NEIGHBOURS = ResultPage("colocalise", "neighbours", "prediction")
SCREENS = ResultPage("screen", "screen", "screen")
EMBEDDINGS = ResultPage("embed", "embedding", "embedding")


def ask(
    form: Callable[[], Request | None],
    panel: Callable[[Request], None],
    needed: str,
    *,
    border: bool = True,
) -> None:
    """Draw a form, and beside it what its request will do and cost.

    Parameters
    ----------
    form
        Draws the form; returns the request once all that it needs is chosen.
    panel
        Draws the estimate and the start button.
    needed
        What is said beside a form that is not complete.
    """
    left, right = st.columns([1.7, 1], gap="large")
    request = None
    with left, st.container(border=border), errors_shown():
        request = form()
    with right, st.container(border=border):
        st.markdown("##### Before you start")
        if request is None:
            st.caption(needed)
            return
        with errors_shown():
            panel(request)
