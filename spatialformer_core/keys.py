"""Every key that this package reads from or writes to an AnnData or SpatialData object."""

from __future__ import annotations


class Obs:
    """Columns of ``adata.obs``."""

    CELL_ID = "cell_id"
    PASSES_QC = "passes_qc"
    TRANSCRIPTS = "n_transcripts"
    GENES = "n_genes"
    AREA_UM2 = "cell_area_um2"
    REGION = "region"


class Var:
    """Columns of ``adata.var``."""

    GENE_IDS = "gene_ids"


class Obsm:
    """Arrays of ``adata.obsm``."""

    SPATIAL = "spatial"
    EMBEDDING = "X_spatialformer"
    COOCCURRENCE = "spatialformer_cooccurrence"


class Obsp:
    """Matrices of ``adata.obsp``."""

    NEIGHBORS = "spatialformer_neighbors"


class Uns:
    """Entries of ``adata.uns``."""

    SPATIALFORMER = "spatialformer"


class Elements:
    """Names of the SpatialData elements in a slide's ``slide.zarr``."""

    TABLE = "table"
    TRANSCRIPTS = "transcripts"
    CELL_BOUNDARIES = "cell_boundaries"
    NUCLEUS_BOUNDARIES = "nucleus_boundaries"
    CELL_CENTROIDS = "cell_centroids"
