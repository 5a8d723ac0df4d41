"""A planted scorer whose effects can be written down, and a tissue to use it on."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from scipy import sparse
from scipy.spatial import cKDTree

from spatialformer_core.arrays import CellTokens
from spatialformer_core.perturbation import ModelFacts, Region, ScreenRequest, Tissue

N_GENES = 12
OFFSET = 9
GENES = tuple(f"G{k:02d}" for k in range(N_GENES))
CONTACT_LEFT, CONTACT_RIGHT = 0, 1
ADDITIVE_LEFT, ADDITIVE_RIGHT = 2, 3


@dataclass
class Sets:
    presence: np.ndarray

    def __len__(self):
        return len(self.presence)

    def take(self, rows):
        return Sets(self.presence[rows])


class PlantedScorer:
    """logit = sum_ij W_ij [i in one][j in other], both orders, + sum_i u_i (either cell)."""

    name = "planted"

    def __init__(self, pair_weights, single_weights):
        self.pair = pair_weights + pair_weights.T
        self.single = single_weights
        self.encoded_cells = 0

    def encode(self, cells: CellTokens) -> Sets:
        self.encoded_cells += cells.n_cells
        presence = np.zeros((cells.n_cells, N_GENES))
        rows = np.repeat(np.arange(cells.n_cells), cells.lengths)
        genes = cells.tokens - OFFSET
        presence[rows[genes >= 0], genes[genes >= 0]] = 1.0
        return Sets(presence)

    def score(self, left, right):
        a, b = left.presence, right.presence
        logits = np.einsum("ni,ij,nj->n", a, self.pair, b) + (a + b) @ self.single
        return logits.astype(np.float32)

    def score_grid(self, left, right):
        a, b = left.presence, right.presence
        grid = a @ self.pair @ b.T + (a @ self.single)[:, None] + (b @ self.single)[None, :]
        return grid.astype(np.float32)


def planted_scorer():
    pair, single = np.zeros((N_GENES, N_GENES)), np.zeros(N_GENES)
    pair[CONTACT_LEFT, CONTACT_RIGHT] = 2.0
    single[ADDITIVE_LEFT] = single[ADDITIVE_RIGHT] = 1.5
    return PlantedScorer(pair, single)


def make_cells(expressed: np.ndarray, rng) -> CellTokens:
    """Tokens in a random rank order, so that rank and gene id differ."""
    lengths = expressed.sum(axis=1)
    indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    tokens = np.concatenate([rng.permutation(np.flatnonzero(row)) for row in expressed]).astype(
        np.int32
    )
    counts = rng.integers(1, 5, len(tokens)).astype(np.int32)
    meta = np.tile(np.array([5, 6, 7, 8], np.int32), (len(expressed), 1))
    return CellTokens(indptr, tokens + OFFSET, counts, meta)


def make_tissue(seed=0, n=2400, width=2400.0, contact=True, simulated=True, donor="d1"):
    """Two types mixed at random; with ``contact`` genes 0-3 depend on touching the other type."""
    rng = np.random.default_rng(seed)
    xy = rng.random((n, 2)) * (width, width / 2)
    kind = rng.integers(0, 3, n)
    left, right = kind == 0, kind == 1
    touching = np.zeros(n, bool)
    for one, other in ((left, right), (right, left)):
        distance, _ = cKDTree(xy[other]).query(xy[one])
        touching[np.flatnonzero(one)[distance <= 30]] = True
    expressed = rng.random((n, N_GENES)) < 0.5
    if contact:
        share = np.where(touching, 0.8, 0.2)
        for gene, cells in (
            (CONTACT_LEFT, left),
            (CONTACT_RIGHT, right),
            (ADDITIVE_LEFT, left),
            (ADDITIVE_RIGHT, right),
        ):
            expressed[:, gene] = cells & (rng.random(n) < share)
    cells = make_cells(expressed, rng)
    return Tissue(
        slide_id=f"slide{seed}",
        donor=donor,
        simulated=simulated,
        xy_um=xy,
        left=left,
        right=right,
        depth=expressed.sum(axis=1) * 2.0,
        presence=sparse.csr_matrix(expressed.astype(np.int32)),
        seen=np.zeros(n, bool),
        regions=(),
        cells=cells,
    )


def mirrored(tissue: Tissue) -> Tissue:
    return replace(tissue, left=tissue.right, right=tissue.left)


def box(tissue: Tissue, name: str, x0, y0, x1, y1, unit=None) -> Region:
    x, y = tissue.xy_um.T
    return Region(name, unit or name, (x >= x0) & (x < x1) & (y >= y0) & (y < y1))


def request(**changes) -> ScreenRequest:
    values = {
        "slide_ids": ("s",),
        "groupby": "cell_type",
        "group_left": "A",
        "group_right": "B",
        "checkpoint_id": "planted",
        "control": "none",
        **changes,
    }
    return ScreenRequest(**values)


MODEL = ModelFacts(
    name="planted",
    id="0" * 16,
    simulated=True,
    genes=GENES,
    gene_offset=OFFSET,
    coverage=1.0,
    fingerprint="f" * 64,
)


def names_out(cells: CellTokens, cell: int, targets) -> CellTokens:
    """One cell whole and without each target, worked out token by token."""
    row = cells.row(cell)
    versions = [row] + [
        row[~np.isin(row, targets.members[k].indices + OFFSET)] for k in range(len(targets))
    ]
    indptr = np.cumsum([0, *(len(v) for v in versions)]).astype(np.int64)
    tokens = np.concatenate(versions)
    meta = np.repeat(cells.meta[[cell]], len(versions), axis=0)
    return CellTokens(indptr, tokens, np.ones(len(tokens), np.int32), meta)


class Lab:
    """Everything above behind one fixture: test folders are no packages."""

    genes = GENES
    n_genes = N_GENES
    offset = OFFSET
    model = MODEL
    contact = (GENES[CONTACT_LEFT], GENES[CONTACT_RIGHT])
    additive = (GENES[ADDITIVE_LEFT], GENES[ADDITIVE_RIGHT])
    scorer = staticmethod(planted_scorer)
    random_scorer = staticmethod(
        lambda rng: PlantedScorer(
            rng.normal(0, 0.5, (N_GENES, N_GENES)), rng.normal(0, 0.5, N_GENES)
        )
    )
    cells = staticmethod(make_cells)
    names_out = staticmethod(names_out)
    tissue = staticmethod(make_tissue)
    mirrored = staticmethod(mirrored)
    box = staticmethod(box)
    request = staticmethod(request)


@pytest.fixture(scope="session")
def lab() -> type[Lab]:
    return Lab
