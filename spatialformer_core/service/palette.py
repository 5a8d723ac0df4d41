"""Colours of groups: the same group has the same colour in the viewer and in every chart."""

from __future__ import annotations

UNASSIGNED = "#9AA5AB"
"""Cells that belong to no group."""

# The first ten are Okabe and Ito's and kin, which colour-blind readers tell apart; the others were
# chosen one after the other as the farthest in OKLab (lightness .42-.85, chroma .06-.165) from all
# before them, so that they stand out on white and on black.
COLOURS = (
    *("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8C6BB1", "#B8A100"),
    *("#7A8793", "#A0522D", "#80E890", "#485800", "#881860", "#4838A0", "#F8B8A8", "#00E8E8"),
    *("#D8B8F8", "#005860", "#684868", "#6888F0", "#D0D088", "#688800", "#C04060", "#B888F8"),
    *("#B88860", "#F88078", "#901828", "#A0D8E8", "#F890E8", "#68B850", "#803898", "#0898A8"),
    *("#70C0A0", "#807038", "#684828", "#407860"),
)


def group_colours(n_groups: int) -> list[str]:
    """Return one ``#RRGGBB`` per group, in the order of the categories (repeating after 36)."""
    return [COLOURS[index % len(COLOURS)] for index in range(n_groups)]
