"""The page Models: without any model, with one and a slide, with a damaged one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pages.ui import model_view
from spatialformer_core.service import checkpoints, open_services


@pytest.fixture(scope="module")
def home(make_home):
    return make_home()


@pytest.fixture
def open_models(open_page, monkeypatch):
    """Open the page in a home, where no model ships with the package."""
    monkeypatch.setattr(checkpoints, "_SHIPPED", Path("nowhere"))

    def opened(folder, **query):
        monkeypatch.setenv("SPATIALFORMER_HOME", str(folder))
        return open_page("models", **query)

    return opened


def frame_with(at, column):
    return next(f.value for f in at.dataframe if column in f.value)


def test_without_a_model_the_way_to_one(tmp_path, open_models):
    at = open_models(tmp_path / "new")
    assert any("No model yet" in m.value for m in at.markdown)
    commands = frame_with(at, "command")["command"].tolist()
    assert "spatialformer models pull published-71-pair" in commands
    assert any("No `.ckpt` or `.pt` lies in" in i.value for i in at.info)
    assert not at.error


def test_card_sizes_and_what_it_knows(home, open_models, metrics):
    at = open_models(home, model="untrained", slide="small")
    assert frame_with(at, "trained_on")["id"].tolist() == ["untrained"]
    assert any("simulated tissue only" in warning.value for warning in at.warning)
    assert any("For tests only." in m.value for m in at.markdown)
    config = frame_with(at, "setting").set_index("setting")["value"]
    assert config["architecture"] == "two-tower"
    shown = metrics(at)
    assert shown["panel known"] == "100.0 %"
    assert shown["counts known"] == "100.0 %"
    genes = frame_with(at, "recognised")
    assert len(genes) == 14
    assert set(genes["recognised"]) == {"exact"}
    at.checkbox(key="models-unknown").check().run()
    assert len(frame_with(at, "recognised")) == 0


def test_a_damaged_model_is_left_out_and_a_lost_link_is_said(home, tmp_path, open_models):
    broken = tmp_path / "home" / "checkpoints" / "broken"
    broken.mkdir(parents=True)
    (broken / "provenance.json").write_text(json.dumps({"simulated": "perhaps"}))
    at = open_models(tmp_path / "home")
    assert any("No model yet" in m.value for m in at.markdown)
    at = open_models(home, model="gone")
    assert any("not here" in warning.value for warning in at.warning)


def test_provenance_in_words():
    trained = {"pairs_seen": 128000, "steps": 1000, "seconds": 940.6, "version": "0.1.0"}
    trained["trained_on"] = [{"slide": "pancreas", "donor": "d1", "cells": 30563}]
    trained["warm_start"] = {"name": "older"}
    assert model_view._history(trained) == [
        "It saw 128,000 cell pairs in 1,000 steps (16 min).",
        "Slide `pancreas`, donor d1: 30,563 cells in training blocks.",
        "It began from the weights of `older`.",
    ]
    assert model_view._history({"simulated": True}) == []


def test_a_file_is_converted_from_the_page(tmp_path, open_models):
    folder = tmp_path / "new" / "sources"
    folder.mkdir(parents=True)
    (folder / "71 pair.ckpt").write_bytes(b"no checkpoint")
    at = open_models(tmp_path / "new")
    (name,) = [f for f in at.text_input if f.label == "Name of the model"]
    assert name.value == "71-pair"
    at.button(key="convert-go").click().run()
    assert not at.error, at.error[0].value
    services = open_services(tmp_path / "new")
    (job,) = services.jobs("local")
    assert (job.kind, job.params["name"], job.params["input_type"]) == ("convert", "71-pair", None)
    claimed = services.queue.claim("me", job.id)
    services.queue.finish(claimed, "failed", "The file is no checkpoint.")
    at = open_models(tmp_path / "new")
    assert "The file is no checkpoint." in at.error[0].value
