"""The choice of one thing among several that have an id and a name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pages.ui.session import current_slide

if TYPE_CHECKING:
    from spatialformer_core.service import SlideMeta


def one_of(
    place: Any, label: str, names: Mapping[Any, str], wanted: Any = None, **more: Any
) -> Any:
    """Draw a select box and return the id that is chosen.

    Parameters
    ----------
    place
        Where it is drawn: a column, or ``st``.
    names
        What each id is called.
    wanted
        The id that is chosen at first, if it is among them; else the first of them.
    """
    ids = list(names)
    first = ids.index(wanted) if wanted in names else 0
    return place.selectbox(label, ids, index=first, format_func=names.__getitem__, **more)


def one_slide(place: Any, slides: Sequence[SlideMeta], **more: Any) -> SlideMeta:
    """Draw the choice of a slide, the one that was looked at last first; return it."""
    by_id = {meta.slide_id: meta for meta in slides}
    names = {slide_id: meta.name for slide_id, meta in by_id.items()}
    return by_id[one_of(place, "Slide", names, current_slide(), **more)]


def one_grouping(place: Any, label: str, meta: SlideMeta, **more: Any) -> str:
    """Draw the choice of one of a slide's groupings, its default one first; return it."""
    return str(
        one_of(place, label, {key: key for key in meta.group_keys}, meta.default_group, **more)
    )
