"""Checkpoints are listed from JSON, YAML and Markdown alone."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from scipy import sparse

from spatialformer_core.config import SampleMetadata
from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.service import checkpoints, open_services
from spatialformer_core.vocabulary import build_vocabulary

SAMPLE = SampleMetadata(
    donor="P1", block="1", condition="Disease", tissue="Lung", species="Human", assay="Xenium"
)


def write_checkpoint(folder, **changes):
    folder.mkdir(parents=True)
    provenance = {"simulated": True, "trained_on": [{"slide": "sim-2", "cells": 5}], **changes}
    (folder / "provenance.json").write_text(json.dumps(provenance))
    (folder / "config.yaml").write_text("architecture: two-tower\npreset: small\n")
    counts = sparse.csr_matrix(np.array([[3, 1], [2, 5]], np.int32))
    build_vocabulary([(["CD3E", "CD68"], counts)], [SAMPLE]).save(folder / "vocabulary.json")
    (folder / "MODEL_CARD.md").write_text("# Card\nTrained on 2 slides.")


@pytest.fixture(autouse=True)
def shipped(tmp_path, monkeypatch):
    folder = tmp_path / "shipped"
    monkeypatch.setattr(checkpoints, "_SHIPPED", folder)
    return folder


def test_shipped_and_own_checkpoints(tmp_path, shipped):
    home = tmp_path / "home"
    write_checkpoint(shipped / "lung")
    write_checkpoint(home / "checkpoints" / "lung", simulated=False)
    write_checkpoint(home / "checkpoints" / "pancreas", simulated=False)
    services = open_services(home)
    assert [info.id for info in services.checkpoints()] == ["shipped.lung", "lung", "pancreas"]
    # Who has a checkpoint of a shipped one's name means his own.
    own = home / "checkpoints" / "lung"
    assert checkpoints.find_checkpoint(home, "lung") == own
    assert checkpoints.checkpoint_folder(home, "lung") == own
    assert checkpoints.find_checkpoint(home, "shipped.lung") == shipped / "lung"
    lung = services.checkpoint("shipped.lung")
    assert lung.simulated
    assert (lung.architecture, lung.preset) == ("two-tower", "small")
    # PAD CLS MASK SEP UNKNOWN, four words of the sample, two genes.
    assert (lung.n_tokens, lung.n_genes) == (11, 2)
    assert lung.trained_on == ("sim-2",)
    assert "Trained on 2 slides" in lung.card
    assert not services.checkpoint("lung").simulated


def test_what_is_no_checkpoint_is_left_out_and_says_why_when_asked(tmp_path):
    home = tmp_path / "home"
    write_checkpoint(home / "checkpoints" / "good")
    write_checkpoint(home / "checkpoints" / "torn")
    (home / "checkpoints" / "torn" / "vocabulary.json").write_text('{"tok')
    write_checkpoint(home / "checkpoints" / "silent")
    (home / "checkpoints" / "silent" / "provenance.json").write_text("{}")
    (home / "checkpoints" / "empty").mkdir()
    services = open_services(home)
    assert [info.id for info in services.checkpoints()] == ["good"]
    with pytest.raises(SpatialFormerError, match="no JSON"):
        services.checkpoint("torn")
    with pytest.raises(SpatialFormerError, match="simulated"):
        services.checkpoint("silent")
    with pytest.raises(SpatialFormerError, match=r"there are: good, silent, torn"):
        services.checkpoint("empty")


@pytest.mark.parametrize("bad", ["../home", "/etc", ""])
def test_an_id_is_no_path(tmp_path, bad):
    with pytest.raises(SpatialFormerError, match="no checkpoint"):
        open_services(tmp_path).checkpoint(bad)


def test_listing_needs_no_torch(tmp_path):
    write_checkpoint(tmp_path / "checkpoints" / "good")
    code = (
        "import sys, pathlib; from spatialformer_core.service import open_services;"
        f"assert [i.id for i in open_services(pathlib.Path({str(tmp_path)!r})).checkpoints()][-1]"
        " == 'good';"
        "bad = {'torch', 'anndata', 'scanpy', 'spatialdata', 'streamlit'} & set(sys.modules);"
        "sys.exit(str(bad) if bad else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_command_line_may_name_a_folder(tmp_path):
    home = tmp_path / "home"
    write_checkpoint(home / "checkpoints" / "mine")
    write_checkpoint(tmp_path / "elsewhere")
    assert checkpoints.find_checkpoint(home, "mine") == home / "checkpoints" / "mine"
    folder = checkpoints.find_checkpoint(home, str(tmp_path / "elsewhere"))
    assert folder == tmp_path / "elsewhere"
    with pytest.raises(SpatialFormerError, match="there are: mine"):
        checkpoints.find_checkpoint(home, str(tmp_path / "nowhere"))
