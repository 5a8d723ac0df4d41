"""The differential pairs as a network of genes, for Cytoscape, Gephi and networkx."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spatialformer_core import files
from spatialformer_core.gene_pairs.words import ALPHA, REST

if TYPE_CHECKING:
    from spatialformer_core.gene_pairs.compare import GenePairResult

_NUMBERS = (
    "effect",
    "low",
    "high",
    "p",
    "q",
    "odds_ratio",
    "closeness_gain",
    "closeness_q",
    "null_z",
    "n_units",
)
_MOST_WITHOUT_P = 200


def network(result: GenePairResult) -> Any:
    """Return the network as a ``networkx.MultiGraph``.

    Nodes are genes (``cells`` that express it, ``mean_count``). Edges are pairs with q < 0.05, one
    per comparison (``group``, ``reference``, effect, q and what else the table says). Against the
    rest of the cells only pairs that the group has more of are edges: that it has fewer of another
    group's pairs is that group's edge. Without any p-value the 200 strongest effects of all
    comparisons stand in, and the graph says so.
    """
    import networkx

    table = result.table
    table = table[(table["reference"] != REST) | (table["effect"] > 0)]
    has_p = bool(table["p"].notna().any())
    if has_p:
        chosen, edges_are = table[table["q"] < ALPHA], f"pairs with q < {ALPHA}"
    else:
        chosen = table.loc[table["effect"].abs().nlargest(_MOST_WITHOUT_P).index]
        edges_are = f"the {_MOST_WITHOUT_P} strongest effects; no p-values"
    graph = networkx.MultiGraph(edges_are=edges_are, verdict=result.info["verdict"])
    known = result.genes.set_index("gene")
    for gene in sorted({*chosen["gene_left"], *chosen["gene_right"]}):
        row = known.loc[gene]
        graph.add_node(gene, cells=int(row["cells"]), mean_count=float(row["mean_count"]))
    for row in chosen.to_dict("records"):
        numbers = {name: float(row[name]) for name in _NUMBERS}
        graph.add_edge(
            row["gene_left"],
            row["gene_right"],
            key=row["group"],
            pair=row["pair"],
            group=row["group"],
            reference=row["reference"],
            # GraphML readers disagree on NaN; what is not known is left out.
            **{name: value for name, value in numbers.items() if not math.isnan(value)},
        )
    return graph


def write_network(graph: Any, path: Path) -> None:
    """Write a network as GraphML."""
    import networkx

    with files.atomic_write(path) as stream:
        networkx.write_graphml(graph, stream)
