"""A simulated slide as a complete Xenium output bundle (layout of versions 2 and 3).

Beside the instrument's own files there are ``labels.csv`` (true types), ``truth.json`` (planted
truth), ``truth_cells.parquet`` (hidden states) and ``granulomas.geojson`` (one ROI per granuloma,
um). ``experiment.xenium`` says ``"simulated": true``.
"""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path
from typing import Any, Final

import numpy as np

from spatialformer_core.arrays import DoubleArray, IntArray
from spatialformer_core.files import atomic_write, write_json
from spatialformer_core.progress import Cancel, Progress, check
from spatialformer_core.simulate import images, rasters, tables
from spatialformer_core.simulate.panel import load_panel
from spatialformer_core.simulate.settings import only_in_cohorts
from spatialformer_core.simulate.slide import ID_SUFFIX, SimulatedSlide
from spatialformer_core.simulate.truth import granuloma_rois, planted_truth

_SOFTWARE_VERSION: Final = "xenium-3.1.0.4"
_MASK_CHUNK: Final = 1024
_SUMMARY_COLUMNS: Final = (
    "cell_centroid_x",
    "cell_centroid_y",
    "cell_area",
    "nucleus_centroid_x",
    "nucleus_centroid_y",
    "nucleus_area",
    "z_level",
    "nucleus_count",
)


def write_bundle(
    slide: SimulatedSlide, folder: Path, name: str, progress: Progress, cancel: Cancel
) -> tuple[int, Any]:
    """Write all files of a bundle into an existing folder.

    Parameters
    ----------
    slide
        What to write.
    folder
        An empty folder.
    name
        Name of the slide; the H&E picture's name begins with it.
    progress, cancel
        As everywhere.

    Returns
    -------
    rows, matrix
        Rows of the transcript table; counts, cells x features.
    """
    progress(0.0, 1.0, "Writing tables")
    matrix = slide.matrix()
    cell_label = np.arange(1, slide.n_cells + 1, dtype=np.int32)
    has_nucleus = slide.outlines.has_nucleus
    nucleus_label = np.where(has_nucleus, np.cumsum(has_nucleus), 0).astype(np.int32)
    rows = tables.write_transcripts(slide, folder / "transcripts.parquet")
    tables.write_cells(slide, matrix, folder / "cells.parquet")
    tables.write_outlines(
        slide, slide.outlines.cell, cell_label, folder / "cell_boundaries.parquet"
    )
    tables.write_outlines(
        slide, slide.outlines.nucleus, nucleus_label, folder / "nucleus_boundaries.parquet"
    )
    tables.write_matrix(slide, matrix, folder / "cell_feature_matrix.h5")
    check(cancel)
    progress(0.25, 1.0, "Clustering")
    tables.write_clusters(slide, matrix, folder)
    tables.write_labels(slide, folder / "labels.csv")
    tables.write_true_states(slide, folder / "truth_cells.parquet")
    check(cancel)
    progress(0.35, 1.0, "Drawing the stain")
    masks = rasters.draw_masks(slide, nucleus_label)
    _write_morphology(slide, masks, folder)
    _write_cells_zarr(slide, masks, nucleus_label, folder / "cells.zarr.zip")
    check(cancel)
    progress(0.6, 1.0, "Drawing the H&E section")
    affine = _write_he(slide, masks, folder, name) if slide.settings.he else None
    truth = planted_truth(slide, affine)
    write_json(folder / "truth.json", truth)
    write_json(folder / "granulomas.geojson", granuloma_rois(slide))
    write_json(folder / "gene_panel.json", _gene_panel())
    write_json(folder / "experiment.xenium", _experiment(slide, matrix, name))
    progress(1.0, 1.0, "Bundle written")
    return rows, matrix


def _write_morphology(slide: SimulatedSlide, masks: rasters.Masks, folder: Path) -> None:
    stain = rasters.draw_dapi(slide, masks)
    focus = folder / "morphology_focus"
    focus.mkdir()
    path = focus / "morphology_focus_0000.ome.tif"
    images.write_stain_pyramid(path, stain, masks.pixel_size_um, "DAPI")
    shutil.copyfile(path, folder / "morphology.ome.tif")


def _write_he(slide: SimulatedSlide, masks: rasters.Masks, folder: Path, name: str) -> DoubleArray:
    """Write the H&E picture and its alignment; return the matrix from its pixels to um."""
    um_from_px, size = rasters.he_affine(slide)
    picture = rasters.draw_he(slide, masks, um_from_px, size)
    pixel_size_um = float(np.hypot(um_from_px[0, 0], um_from_px[1, 0]))
    images.write_rgb_pyramid(folder / f"{name}_he_image.ome.tif", picture, pixel_size_um)
    morphology_from_px = um_from_px.copy()
    morphology_from_px[:2] /= masks.pixel_size_um
    with atomic_write(folder / f"{name}_he_imagealignment.csv", "w") as stream:
        stream.writelines(
            ",".join(repr(float(v)) for v in row) + "\n" for row in morphology_from_px
        )
    return um_from_px


def _write_cells_zarr(
    slide: SimulatedSlide, masks: rasters.Masks, nucleus_label: IntArray, path: Path
) -> None:
    """Write ``cells.zarr.zip`` (Zarr version 2)."""
    import zarr

    shapes = slide.outlines
    nucleus = np.where(shapes.has_nucleus[:, None], shapes.centre_um, np.nan)
    summary = np.column_stack(
        [
            shapes.centroid_um,
            shapes.cell_area_um2,
            nucleus,
            shapes.nucleus_area_um2,
            np.full(slide.n_cells, 10.0),
            shapes.has_nucleus,
        ]
    )
    cell_id = np.column_stack([slide.id_prefix, np.full(slide.n_cells, ID_SUFFIX)])
    store = zarr.storage.ZipStore(path, mode="w")
    root = zarr.group(
        store,
        zarr_format=2,
        attributes={
            "major_version": 6,
            "minor_version": 0,
            "name": "CellSegmentationDataset",
            "number_cells": slide.n_cells,
            "simulated": True,
        },
    )
    root.create_array("cell_id", data=cell_id.astype(np.uint32))
    root.create_array(
        "cell_summary", data=summary, attributes={"column_names": list(_SUMMARY_COLUMNS)}
    )
    for index, picture in enumerate((masks.nuclei, masks.cells)):
        chunks = (min(_MASK_CHUNK, picture.shape[0]), min(_MASK_CHUNK, picture.shape[1]))
        root.create_array(f"masks/{index}", data=picture, chunks=chunks)
    owners = (np.flatnonzero(nucleus_label), np.arange(slide.n_cells))
    for index, owner in enumerate(owners):
        root.create_array(f"polygon_sets/{index}/cell_index", data=owner.astype(np.uint32))
    store.close()


def _gene_panel() -> dict[str, Any]:
    panel = load_panel()
    genes = [
        {"type": {"descriptor": "gene", "data": {"id": ensembl, "name": gene}}, "codewords": [code]}
        for code, (gene, ensembl) in enumerate(zip(panel.genes, panel.ensembl, strict=True))
    ]
    controls = [
        {
            "type": {"descriptor": kind.lower().replace(" ", "_"), "data": {"name": name}},
            "codewords": [panel.n_genes + code],
        }
        for code, (name, kind) in enumerate(panel.controls)
    ]
    return {
        "metadata": {"schema": "http://10xgenomics.com/xenium-gene-panel", "simulated": True},
        "payload": {
            "chemistry": {"version": "v1"},
            "panel": {
                "identity": {"design_id": "simulated_lung", "name": "Simulated lung panel"},
                "num_gene_targets": panel.n_genes,
                "type": "predesigned",
                "species": "Human",
                "tissue": "Lung",
            },
            "targets": genes + controls,
        },
    }


def _experiment(slide: SimulatedSlide, matrix: Any, name: str) -> dict[str, Any]:
    panel = load_panel()
    per_cell = np.asarray(matrix[:, : panel.n_genes].sum(axis=1)).ravel()
    made_from = slide.settings.model_dump_json(exclude=only_in_cohorts(slide.settings))
    identity = uuid.uuid5(uuid.NAMESPACE_OID, made_from)
    return {
        "major_version": 6,
        "minor_version": 0,
        "patch_version": 0,
        "simulated": True,
        "run_name": f"simulated seed {slide.settings.seed}",
        "region_name": name,
        "preservation_method": "simulated",
        "num_cells": slide.n_cells,
        "transcripts_per_cell": float(np.median(per_cell)),
        "panel_design_id": "simulated_lung",
        "panel_name": "Simulated lung panel",
        "panel_organism": "Human",
        "panel_tissue_type": "Lung",
        "panel_num_targets_predesigned": panel.n_genes,
        "panel_num_targets_custom": 0,
        "pixel_size": slide.settings.pixel_size_um,
        "z_step_size": 3.0,
        "instrument_sn": "simulated",
        "instrument_sw_version": "3.1.0.0",
        "analysis_sw_version": _SOFTWARE_VERSION,
        "experiment_uuid": str(identity),
        "images": {
            "morphology_filepath": "morphology.ome.tif",
            "morphology_focus_filepath": "morphology_focus/morphology_focus_0000.ome.tif",
        },
        "xenium_explorer_files": {"cells_zarr_filepath": "cells.zarr.zip"},
    }
