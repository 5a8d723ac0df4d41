"""Colours of groups: the same group has the same colour in the viewer and in every chart."""

from __future__ import annotations

UNASSIGNED = "#9AA5AB"
"""Cells that belong to no group."""

REST = "not selected"
"""What cells are called that were not picked; they have the colour of no group."""

# The first ten are Okabe and Ito's and kin, which colour-blind readers tell apart; the others were
# chosen one after the other as the farthest in OKLab (lightness .47-.83, chroma .06-.155) from all
# before them, so that they stand out on white and on black.
COLOURS = (
    *("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8C6BB1", "#B8A100"),
    *("#7A8793", "#A0522D", "#80E088", "#606800", "#983068", "#F8B0A0", "#C0A8F8", "#00E0D8"),
    *("#206860", "#C8C890", "#B88860", "#6888E8", "#5848A8", "#689820", "#F898E8", "#705070"),
    *("#0898A8", "#C85060", "#78C0A0", "#F88088", "#98D0E0", "#809060", "#007820", "#803890"),
    *("#C0D050", "#E0B8D8", "#987000", "#A06878"),
)


def group_colours(n_groups: int) -> list[str]:
    """Return one ``#RRGGBB`` per group, in the order of the categories (repeating after 36)."""
    return [COLOURS[index % len(COLOURS)] for index in range(n_groups)]
