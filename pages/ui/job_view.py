"""All of the visitor's jobs: how many, which, and each with its log and its files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from pages.ui import cards, choices, downloads, progress
from pages.ui.job_titles import KINDS, result_link, title
from pages.ui.session import errors_shown, link, linked, owner, services
from pages.ui.text import count, duration, moment, size

if TYPE_CHECKING:
    from spatialformer_core.service import Job

_POLL_S = 2.0
_LOG_LINES = 200
_ROWS = 9


def numbers(jobs: Sequence[Job]) -> None:
    """Draw how many jobs are in which state."""
    tally = pd.Series([job.status for job in jobs]).value_counts()
    ended = int(tally.reindex(["failed", "cancelled", "lost"]).fillna(0).sum())
    cards.figures(
        [
            ("running", count(tally.get("running", 0)), "Jobs of yours that run now."),
            (
                "waiting",
                count(tally.get("queued", 0)),
                "They start by themselves; people take turns, each one's jobs by age.",
            ),
            ("done", count(tally.get("done", 0)), "Their results are kept."),
            ("ended without result", count(ended), "Failed, cancelled, or lost with the computer."),
        ]
    )


def table(jobs: Sequence[Job]) -> pd.DataFrame:
    """Return one row per job, newest first, with times in seconds and places in the queue."""
    rows = [
        {
            "job": title(job),
            "kind": KINDS.get(job.kind, job.kind),
            "status": progress.status_name(job),
            "done_percent": round(100 * job.share),
            "jobs_ahead": services().position(job.id) if job.status == "queued" else None,
            "created": moment(job.created),
            "ran_s": round(job.ended - job.started, 1) if job.ended and job.started else None,
            "message": job.error or job.message or None,
            "id": job.id,
        }
        for job in jobs
    ]
    frame = pd.DataFrame(rows)
    return frame.astype({"jobs_ahead": "Int64", "ran_s": "float64"})


def list_all(jobs: Sequence[Job]) -> None:
    """Draw the table of all jobs with its downloads."""
    frame = table(jobs)
    small = st.column_config.NumberColumn
    # Columns without any value say nothing: most of the time nobody waits.
    order = [name for name in frame if frame[name].notna().any()]
    st.dataframe(
        frame,
        hide_index=True,
        height="content" if len(frame) < _ROWS else 340,
        column_order=order,
        column_config={
            "job": st.column_config.TextColumn(pinned=True),
            "done_percent": st.column_config.ProgressColumn(
                "progress", format="%.0f %%", min_value=0, max_value=100
            ),
            "jobs_ahead": small("jobs ahead", help="Jobs that run before it, other people's too."),
            "ran_s": small("ran (s)", format="localized", help="From its start to its end."),
        },
    )
    downloads.table_buttons(frame, "jobs", "jobs")


def choose(jobs: Sequence[Job]) -> Job | None:
    """Draw the choice of one job; the one of the link, else the newest, comes first."""
    by_id = {job.id: job for job in jobs}
    wanted = linked("job")
    if wanted and wanted not in by_id:
        st.warning("The job of this link is not one of yours, or too old to be listed.")
    chosen = choices.one_of(
        st,
        "Job",
        {job.id: f"{title(job)}  ·  {progress.status_name(job)}" for job in jobs},
        wanted,
        help="Newest first. Its log, its settings and its files are below.",
    )
    link("job", chosen)
    return by_id.get(chosen)


def _times(job: Job) -> None:
    waited = (job.started or job.ended or 0) - job.created
    ran = job.ended - job.started if job.ended and job.started else None
    cards.figures(
        [
            ("created", moment(job.created), "Local time."),
            ("waited", duration(waited if waited > 0 else None), "Until a worker took it."),
            ("ran", duration(ran), "From its start to its end."),
            ("attempts", count(job.attempts), "A job whose computer stopped is started again."),
        ]
    )


def _log(job: Job) -> None:
    @st.fragment(run_every=None if job.is_ended else _POLL_S)
    def tail() -> None:
        text = services().log(job.id, owner())
        if not text.strip():
            st.caption("It has written nothing to its log.")
            return
        lines = text.splitlines()[-_LOG_LINES:]
        st.code("\n".join(lines), language=None, wrap_lines=True, height=260)

    with st.expander("Log, its last lines", icon=":material/terminal:", expanded=job.is_fault):
        tail()


def _files(job: Job) -> None:
    found = services().result_files(job.id, owner())
    st.markdown("**Files of the result**")
    with st.container(horizontal=True, gap="small"):
        for file in found:
            downloads.file_button(
                f"{file.name} ({size(file.n_bytes)})",
                partial(services().result_file, job.id, file.name, owner()),
                f"{job.id}-{file.name.replace('/', '-')}",
                "application/octet-stream",
                f"file-{job.id}-{file.name}",
            )


def details(job: Job) -> None:
    """Draw one job: times, why it has no result or where its result is, log, settings."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader(title(job), anchor=False, width="content")
        progress.badge(job)
    _times(job)
    with errors_shown():
        if job.status == "done":
            result_link(job)
            _files(job)
        elif job.is_ended:
            progress.failure(job, title(job))
        _log(job)
    with st.expander("What it was asked to do", icon=":material/data_object:"):
        st.code(json.dumps(job.params, indent=1, ensure_ascii=False), language="json", height=260)
