"""The bundle on disk: complete, consistent, and open to spatialdata-io."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest
import tifffile

from spatialformer_core.errors import Cancelled, SpatialFormerError
from spatialformer_core.files import verify_directory
from spatialformer_core.simulate import SimulationSettings, simulate
from spatialformer_core.simulate.panel import CELL_TYPES, load_panel

FILES = {
    "COMPLETE.json",
    "analysis/clustering/gene_expression_graphclust/clusters.csv",
    "cell_boundaries.parquet",
    "cell_feature_matrix.h5",
    "cells.parquet",
    "cells.zarr.zip",
    "experiment.xenium",
    "gene_panel.json",
    "granulomas.geojson",
    "labels.csv",
    "morphology.ome.tif",
    "morphology_focus/morphology_focus_0000.ome.tif",
    "nucleus_boundaries.parquet",
    "small_he_image.ome.tif",
    "small_he_imagealignment.csv",
    "transcripts.parquet",
    "truth.json",
    "truth_cells.parquet",
}
TRANSCRIPT_COLUMNS = [
    "transcript_id",
    "cell_id",
    "overlaps_nucleus",
    "feature_name",
    "x_location",
    "y_location",
    "z_location",
    "qv",
    "fov_name",
    "nucleus_distance",
]


def test_all_files_are_there_and_whole(bundle):
    folder, report = bundle
    found = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert found == FILES
    assert verify_directory(folder) == []
    assert report.cells == 400
    assert report.name == "small"
    assert json.loads((folder / "experiment.xenium").read_text())["simulated"] is True


def test_tables_agree_with_each_other(bundle):
    folder, report = bundle
    transcripts = pq.read_table(folder / "transcripts.parquet").to_pandas()
    cells = pq.read_table(folder / "cells.parquet").to_pandas()
    assert list(transcripts.columns) == TRANSCRIPT_COLUMNS
    assert len(transcripts) == report.transcripts
    assert transcripts.transcript_id.is_unique
    assert set(transcripts.cell_id) <= set(cells.cell_id) | {"UNASSIGNED"}
    panel = load_panel()
    assert set(transcripts.feature_name) <= set(panel.features)
    counted = transcripts[(transcripts.qv >= 20) & (transcripts.cell_id != "UNASSIGNED")]
    genes = counted[counted.feature_name.isin(panel.genes)]
    expected = genes.groupby("cell_id").size().reindex(cells.cell_id, fill_value=0)
    assert (expected.to_numpy() == cells.transcript_counts.to_numpy()).all()
    with h5py.File(folder / "cell_feature_matrix.h5") as file:
        matrix = file["matrix"]
        assert matrix["barcodes"].asstr()[:].tolist() == cells.cell_id.tolist()
        assert matrix["data"][:].sum() == len(counted)
        assert tuple(matrix["shape"]) == (len(panel.features), 400)
        assert matrix["features/id"].asstr()[0] == panel.ensembl[0]
    labels = pc.read_csv(folder / "labels.csv").to_pandas()
    assert labels.columns.tolist() == ["cell_id", "group"]
    assert labels.cell_id.tolist() == cells.cell_id.tolist()
    assert set(labels.group) <= set(CELL_TYPES)
    states = pq.read_table(folder / "truth_cells.parquet").to_pandas()
    assert states.cell_type.tolist() == labels.group.tolist()
    path = folder / "analysis/clustering/gene_expression_graphclust/clusters.csv"
    clusters = pc.read_csv(path).to_pandas()
    assert clusters.columns.tolist() == ["Barcode", "Cluster"]
    assert clusters.Cluster.min() == 1


def test_clusters_found_in_the_counts_resemble_the_types(bundle):
    from sklearn.metrics import adjusted_rand_score

    folder, _ = bundle
    labels = pc.read_csv(folder / "labels.csv").to_pandas().group
    path = folder / "analysis/clustering/gene_expression_graphclust/clusters.csv"
    assert adjusted_rand_score(labels, pc.read_csv(path).to_pandas().Cluster) > 0.3


def test_truth_lists_what_was_planted(bundle):
    folder, _ = bundle
    truth = json.loads((folder / "truth.json").read_text())
    assert truth["simulated"] is True
    assert truth["planted"] is True
    assert truth["seed"] == truth["settings"]["seed"] == 3
    for key in (
        "colocalised_pairs",
        "colocalisation_decoys",
        "contact_genes",
        "contact_pairs",
        "contact_pair_decoys",
        "zone_genes",
        "spillover_genes",
    ):
        assert len(truth[key]) >= 4
    rois = json.loads((folder / "granulomas.geojson").read_text())
    assert len(rois["features"]) == 2
    ring = rois["features"][0]["geometry"]["coordinates"][0]
    assert ring[0] == ring[-1]


def test_he_is_a_pyramid_that_lies_on_the_morphology(bundle):
    folder, _ = bundle
    with tifffile.TiffFile(folder / "small_he_image.ome.tif") as file:
        series = file.series[0]
        assert file.is_ome
        assert series.axes == "YXS"
        assert series.pages[0].compression == tifffile.COMPRESSION.JPEG
        picture = series.asarray().astype(float)
    morphology = tifffile.imread(folder / "morphology.ome.tif")
    affine = np.loadtxt(folder / "small_he_imagealignment.csv", delimiter=",")
    assert affine.shape == (3, 3)
    turn = np.arctan2(affine[1, 0], affine[0, 0])
    assert 0.03 < abs(turn) < 0.12
    # Nuclei are bright in the stain and dark red-wise in the H&E at the same place.
    row, column = np.indices(picture.shape[:2])
    at = affine @ np.stack([column.ravel() + 0.5, row.ravel() + 0.5, np.ones(row.size)])
    x, y = at[0].astype(int), at[1].astype(int)
    inside = (x >= 0) & (y >= 0) & (x < morphology.shape[1]) & (y < morphology.shape[0])
    stain = morphology[y[inside], x[inside]]
    red = picture[..., 0].ravel()[inside]
    green = picture[..., 1].ravel()[inside]
    nuclear, airspace = stain > 1200, green > 235
    assert red[nuclear].mean() < 160
    assert red[stain < 200].mean() > 200
    assert 0.2 < airspace.mean() < 0.8


def test_spatialdata_io_opens_it(bundle):
    from spatialdata_io import xenium

    folder, _ = bundle
    data = xenium(folder)
    assert set(data.images) == {"he_image", "morphology_focus"}
    assert set(data.labels) == {"cell_labels", "nucleus_labels"}
    table = data["table"]
    assert table.shape == (400, load_panel().n_genes)
    assert table.obs["cell_labels"].tolist() == list(range(1, 401))
    assert len(data["cell_boundaries"]) == 400
    assert len(data["nucleus_boundaries"]) == int(table.obs["nucleus_count"].sum()) < 400
    areas = data["cell_boundaries"].area.to_numpy()
    np.testing.assert_allclose(areas, table.obs["cell_area"], rtol=1e-3)
    assert "z" in data["transcripts"].columns
    mask = data["cell_labels"]["scale0"].image.to_numpy()
    pixel_area = np.bincount(mask.ravel(), minlength=401)[1:] * 0.85**2
    np.testing.assert_allclose(pixel_area.mean(), areas.mean(), rtol=0.02)


def test_no_he_when_not_wanted_and_nothing_left_after_cancel(tmp_path):
    settings = SimulationSettings(cells=200, he=False, pixel_size_um=2.0)
    simulate(tmp_path / "plain", settings)
    assert not list((tmp_path / "plain").glob("*he_image*"))
    calls = iter([False, False, True])
    with pytest.raises(Cancelled):
        simulate(tmp_path / "stopped", settings, cancel=lambda: next(calls, True))
    assert {p.name for p in tmp_path.iterdir()} <= {"plain", "home"}


def test_refuses_to_overwrite_and_bad_names(tmp_path):
    (tmp_path / "taken").mkdir()
    settings = SimulationSettings(cells=200)
    with pytest.raises(SpatialFormerError, match="exists already"):
        simulate(tmp_path / "taken", settings)
    with pytest.raises(SpatialFormerError, match="cannot be used as a name"):
        simulate(tmp_path / "..", settings)
