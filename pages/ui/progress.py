"""Jobs on a page: progress, estimate, queue position, cancel. Polls only while something runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import streamlit as st

from pages.ui.session import errors_shown, owner, services
from pages.ui.text import duration, moment, plural

if TYPE_CHECKING:
    from spatialformer_core.service import Job

_POLL_S = 1.0
_SHOWN = {
    "queued": ("waiting", "gray", "hourglass_empty"),
    "running": ("running", "blue", "progress_activity"),
    "done": ("done", "green", "check_circle"),
    "failed": ("failed", "red", "error"),
    "cancelled": ("cancelled", "gray", "block"),
    "lost": ("lost", "orange", "power_off"),
}


def jobs_of(kind: str | None) -> list[Job]:
    """Return this visitor's jobs of a kind (None: of all), newest first."""
    return [job for job in services().jobs(owner()) if kind in (None, job.kind)]


def status_name(job: Job) -> str:
    """Return a job's status in a word."""
    return _SHOWN[job.status][0]


def badge(job: Job) -> None:
    """Draw a job's status."""
    text, colour, icon = _SHOWN[job.status]
    st.badge(text, color=colour, icon=f":material/{icon}:")  # type: ignore[arg-type]  # a fixed palette


def _state(job: Job) -> str:
    if job.status == "queued":
        ahead = services().position(job.id)
        return "Starting …" if not ahead else f"Waiting: {plural(ahead, 'job')} ahead"
    if job.cancel_requested:
        return "Stopping …"
    left = f" · about {duration(job.remaining_s)} left" if (job.remaining_s or 0) >= 1 else ""
    return f"{job.message or 'Running'} · {100 * job.share:.0f} %{left}"


def _cancel(job_id: str) -> None:
    with errors_shown():
        services().cancel(job_id, owner())


def _row(job: Job, title: str) -> None:
    bar, button = st.columns([6, 1], vertical_alignment="center")
    bar.progress(min(max(job.share, 0.0), 1.0), text=f"**{title}** · {_state(job)}")
    button.button(
        "Cancel",
        key=f"cancel-{job.id}",
        icon=":material/stop_circle:",
        on_click=_cancel,
        args=(job.id,),
        disabled=job.cancel_requested,
        help="Stops the work; nothing half-done is left behind.",
        width="stretch",
    )


def failure(job: Job, name: str) -> None:
    """Say why a job has no result."""
    if job.status == "cancelled":
        st.info(f"**{name}** was cancelled; nothing was written.", icon=":material/block:")
    elif job.status == "lost":
        text = job.error or "The computer stopped while it ran."
        st.warning(f"**{name}**: {text} Start it again.", icon=":material/power_off:")
    elif job.status == "failed":
        text = job.error or "It ended without saying why."
        hint = " This is a fault of ours; the log has the details." if job.is_fault else ""
        st.error(f"**{name}**: {text}{hint}", icon=":material/error:")


def is_seen(job: Job) -> bool:
    """Tell whether the visitor has dismissed what was said of a job."""
    return f"seen-{job.id}" in st.session_state


def dismiss_button(job: Job) -> None:
    """Draw the button after which nothing more is said of a job."""
    if st.button("Dismiss", key=f"dismiss-{job.id}", width="stretch"):
        st.session_state[f"seen-{job.id}"] = True
        st.rerun()


def last_failure(kind: str, title: Callable[[Job], str]) -> None:
    """Say why the newest job has no result, until the visitor has seen it or tries again."""
    job = next(iter(jobs_of(kind)), None)
    if job is None or not job.is_ended or job.status == "done" or is_seen(job):
        return
    message, button = st.columns([9, 1], vertical_alignment="center")
    with message:
        failure(job, title(job))
    with button:
        dismiss_button(job)


def active_jobs(kind: str | None, title: Callable[[Job], str]) -> None:
    """Draw the waiting and running jobs of a kind (None: of all); rerun the page when one ends."""
    before = [job.id for job in jobs_of(kind) if not job.is_ended]

    @st.fragment(run_every=_POLL_S if before else None)
    def board() -> None:
        # Asking for each job by its id keeps its worker alive.
        shown = [services().job(job_id, owner()) for job_id in before]
        now = [job for job in shown if not job.is_ended]
        for job in now:
            _row(job, title(job))
        if len(now) < len(before):
            # One full run when a job ends: it stops the polling and shows the result.
            st.rerun()

    board()


def table_of(jobs: Sequence[Job], title: Callable[[Job], str], chosen: str | None) -> str | None:
    """Draw ended jobs with a button that opens each; return the id of the one to open."""
    opened = None
    for job in jobs:
        name, status, when, button = st.columns([5, 1.3, 1.7, 1], vertical_alignment="center")
        name.markdown(title(job))
        with status:
            badge(job)
        when.caption(moment(job.created))
        label = "Shown" if job.id == chosen else "Open"
        key, off = f"open-{job.id}", job.id == chosen
        if button.button(label, key=key, disabled=off, width="stretch"):
            opened = job.id
    return opened
