"""The public reader opens a complete bundle too: both must see the same slide."""

from __future__ import annotations

import numpy as np
import pytest

from spatialformer_core.io import read_source

pytestmark = [pytest.mark.slow, pytest.mark.parity]


@pytest.mark.filterwarnings("ignore")
def test_equals_spatialdata_io(tmp_path) -> None:
    from spatialdata.transformations import get_transformation
    from spatialdata_io import xenium

    from spatialformer_core.simulate import SimulationSettings, simulate

    bundle = tmp_path / "bundle"
    simulate(bundle, SimulationSettings(seed=2, cells=300))
    ours = read_source(bundle)
    theirs = xenium(bundle, cells_labels=False, nucleus_labels=False, morphology_mip=False)
    table = theirs.tables["table"]
    assert table.obs["cell_id"].astype(str).tolist() == ours.cells.cell_ids.tolist()
    assert table.var_names.tolist() == list(ours.cells.genes)
    assert (table.X.astype(np.int64) != ours.cells.counts).nnz == 0
    np.testing.assert_allclose(table.obsm["spatial"], ours.cells.xy_um)
    points = theirs.points["transcripts"].compute()
    assert np.array_equal(points[["x", "y", "z"]].to_numpy(np.float32), ours.transcripts.xyz_um)
    names = np.append(ours.cells.cell_ids, "UNASSIGNED")[ours.transcripts.cell]
    assert (points["cell_id"].astype(str).to_numpy() == names).all()
    outlines = theirs.shapes["cell_boundaries"].geometry
    lengths = [len(ring.exterior.coords) for ring in outlines]
    assert np.diff(ours.polygons.indptr).tolist() == lengths
    # Theirs maps H&E pixels to morphology pixels, ours to micrometres.
    he = next(image for image in ours.images if image.kind == "he")
    matrix = get_transformation(theirs.images["he_image"]).to_affine_matrix(("x", "y"), ("x", "y"))
    pixel_um = next(i for i in ours.images if i.kind == "stain").um_from_px[0, 0]
    np.testing.assert_allclose(np.diag([pixel_um, pixel_um, 1]) @ matrix, he.um_from_px)
