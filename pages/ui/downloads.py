"""Every table downloads as CSV and as Parquet."""

from __future__ import annotations

import io
from collections.abc import Callable

import pandas as pd
import streamlit as st


def csv_bytes(frame: pd.DataFrame) -> bytes:
    """Return the table as UTF-8 CSV, full precision."""
    text: str = frame.to_csv(index=False)
    return text.encode("utf-8")


def parquet_bytes(frame: pd.DataFrame) -> bytes:
    """Return the table as a Parquet file."""
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    return buffer.getvalue()


def file_button(
    label: str, content: bytes | Callable[[], bytes], file_name: str, mime: str, key: str
) -> None:
    """Draw one download button that leaves the page as it is."""
    st.download_button(
        label,
        content,
        file_name=file_name,
        mime=mime,
        key=key,
        icon=":material/download:",
        on_click="ignore",
    )


def table_buttons(frame: pd.DataFrame, stem: str, key: str) -> None:
    """Draw the CSV and Parquet buttons of a table; files are written on the click."""
    with st.container(horizontal=True, gap="small", width="content"):
        csv = ("CSV", lambda: csv_bytes(frame), f"{stem}.csv", "text/csv", f"{key}-csv")
        file_button(*csv)
        mime = "application/vnd.apache.parquet"
        file_button(
            "Parquet", lambda: parquet_bytes(frame), f"{stem}.parquet", mime, f"{key}-parquet"
        )
