"""Ligand-receptor tables, gene sets and agreement on small tables with known answers."""

from __future__ import annotations

import gzip
import sys
from math import comb

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from spatialformer_core.errors import SpatialFormerError
from spatialformer_core.perturbation import enrichment, ligand_receptor
from spatialformer_core.perturbation.agreement import add_agreement
from spatialformer_core.perturbation.enrichment import GeneSets, enrich, facts, read_gmt
from spatialformer_core.perturbation.interpret import effect_against_rank
from spatialformer_core.perturbation.ligand_receptor import LigandReceptors, read_ligand_receptors

OMNIPATH = (
    '"","source","target","source_genesymbol","target_genesymbol","resource"\n'
    '"1","P1","P2","LGALS9","CD44","consensus"\n'
    '"2","P3","COMPLEX:P4_P5","NRG2","ERBB2_ERBB3","consensus"\n'
    '"3","P6","P7","NOTCH1","JAG2","baccin2019"\n'
)
CELLCHAT = (
    ",interaction_name,pathway_name,ligand,receptor,agonist\n"
    "A,TGFB1_TGFBR1_TGFBR2,TGFb,TGFB1,TGFbR1_R2,\n"
    "B,CD274_PDCD1,PD-L1,CD274,PDCD1,\n"
)
COMPLEX = (
    '"","subunit_1","subunit_2","subunit_3","subunit_4"\n"TGFbR1_R2","TGFBR1","TGFBR2","",""\n'
)


def test_of_several_resources_the_consensus_is_read_and_complexes_are_taken_apart(tmp_path):
    path = tmp_path / "omni.csv"
    path.write_text(OMNIPATH)
    known = read_ligand_receptors(path)
    assert known.pairs == {("LGALS9", "CD44"), ("NRG2", "ERBB2"), ("NRG2", "ERBB3")}
    assert (known.name, known.n_interactions, known.note) == ("omni.csv", 2, "")


def test_cellchat_complexes_come_from_the_table_beside(tmp_path):
    path = tmp_path / "human-interaction_input_CellChatDB.csv.gz"
    path.write_bytes(gzip.compress(CELLCHAT.encode()))
    alone = read_ligand_receptors(path)
    assert "is not beside" in alone.note
    assert ("TGFB1", "TGFBR1") not in alone.pairs
    (tmp_path / "human-complex_input_CellChatDB.csv").write_text(COMPLEX)
    known = read_ligand_receptors(str(path))
    assert known.pairs == {("TGFB1", "TGFBR1"), ("TGFB1", "TGFBR2"), ("CD274", "PDCD1")}
    assert (known.n_interactions, known.note) == (2, "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "Expected source_genesymbol"),
        ("ligand,receptor\n,\n", "holds no ligand-receptor pair"),
        ('ligand,receptor\n"A\x00",B\n\xff', "no CSV|no UTF"),
    ],
)
def test_a_table_of_something_else_is_refused(tmp_path, text, message):
    path = tmp_path / "table.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(SpatialFormerError, match=message):
        read_ligand_receptors(path)
    with pytest.raises(SpatialFormerError):
        read_ligand_receptors(tmp_path / "absent.csv")


def test_liana_is_asked_for_only_where_it_is_installed(monkeypatch):
    for name in ("liana", "liana.resource"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(SpatialFormerError, match="not installed"):
        read_ligand_receptors("liana")


def test_the_tables_in_real_use_are_read(shared_data):
    omni = read_ligand_receptors(shared_data / "lr" / "omni_resource.csv")
    human = read_ligand_receptors(shared_data / "lr" / "human-interaction_input_CellChatDB.csv.gz")
    assert omni.n_interactions > 4000
    assert human.note == ""
    for pair in (("CXCL12", "CXCR4"), ("TGFB1", "TGFBR2")):
        assert pair in omni.pairs
        assert pair in human.pairs
    assert not any("_" in gene for pair in omni.pairs for gene in pair)
    go = read_gmt(shared_data / "genesets" / "enrichr.GO_Biological_Process_2021.gmt")
    assert len(go.sets) > 5000
    assert (
        "STAT1"
        in read_gmt(shared_data / "genesets" / "h.all.v7.0.symbols.gmt").sets[
            "HALLMARK_INTERFERON_GAMMA_RESPONSE"
        ]
    )


def table(n: int = 30, seed: int = 0, *, with_p: bool = True) -> pd.DataFrame:
    """All pairs of n left and n right genes; strength grows with expression, nothing else."""
    rng = np.random.default_rng(seed)
    expression = np.sort(rng.lognormal(4, 1, (2, n)), axis=1)[:, ::-1]
    left, right = (grid.ravel() for grid in np.meshgrid(range(n), range(n), indexing="ij"))
    carried = np.maximum(expression[0][left] * expression[1][right] / 100, 1).astype(int)
    main = rng.normal(size=(2, n))
    value = 0.3 * np.log(carried) + main[0][left] + main[1][right] + rng.normal(size=n * n)
    p = rng.random(n * n) if with_p else np.full(n * n, np.nan)
    return pd.DataFrame(
        {
            "gene_left": [f"L{k:02d}" for k in left],
            "gene_right": [f"R{k:02d}" for k in right],
            "n_pairs": carried,
            "d_diff": -value,
            "epsilon": value,
            "rank_left": left + rng.random(n * n),
            "rank_right": right + rng.random(n * n),
            "p": p,
            "q": p,
            "epsilon_q": p,
            "spillover": pd.array([False] * (n * n), dtype="boolean"),
        }
    )


def known_pairs(frame: pd.DataFrame, seed: int, n: int = 25) -> LigandReceptors:
    """Pairs that studies like: drawn by expression; half of them written right to left."""
    rng = np.random.default_rng(seed)
    weight = frame["n_pairs"].to_numpy(float)
    rows = rng.choice(len(frame), n, replace=False, p=weight / weight.sum())
    genes = [tuple(pair) for pair in frame.loc[rows, ["gene_left", "gene_right"]].to_numpy()]
    pairs = [pair if k % 2 else pair[::-1] for k, pair in enumerate(genes)]
    return LigandReceptors("made up", frozenset(pairs), n)


def test_marks_name_the_ligand_in_either_orientation():
    frame = table(2)
    known = LigandReceptors("x", frozenset({("L00", "R00"), ("R01", "L00")}), 2)
    is_known, ligand = ligand_receptor.mark(frame, known)
    assert is_known.tolist() == [True, True, False, False]
    assert ligand == ["left", "right", "", ""]


def test_p_of_known_pairs_is_uniform_where_only_expression_counts(monkeypatch):
    monkeypatch.setattr(ligand_receptor, "_N_RANDOM", 199)
    p = []
    for seed in range(60):
        frame = table(seed=seed)
        found = ligand_receptor.enrichment(frame, known_pairs(frame, seed), same_type=False)
        p.append(found["tests"]["interaction"]["p"])
    assert stats.kstest(p, "uniform").pvalue > 0.01
    assert np.mean(np.array(p) < 0.05) <= 0.15


def test_planted_known_pairs_are_found_and_the_least_p_is_stated(monkeypatch):
    monkeypatch.setattr(ligand_receptor, "_N_RANDOM", 499)
    frame = table(seed=3)
    known = known_pairs(frame, 3)
    is_known, _ = ligand_receptor.mark(frame, known)
    frame.loc[is_known, "epsilon"] += 4
    found = ligand_receptor.enrichment(frame, known, same_type=False)
    assert found["testable"] == is_known.sum() == 25
    assert found["tests"]["interaction"]["p"] == found["tests"]["interaction"]["smallest_p"]
    assert found["tests"]["interaction"]["smallest_p"] == 1 / 500
    assert found["tests"]["effect"]["p"] > 1 / 500
    without = frame.assign(p=np.nan, q=np.nan, epsilon_q=np.nan)
    quiet = ligand_receptor.enrichment(without, known, same_type=False)
    assert quiet["significant"] is None
    assert quiet["tests"]["interaction"]["p"] is None


def test_no_testable_pair_gives_no_test():
    found = ligand_receptor.enrichment(
        table(4), LigandReceptors("x", frozenset({("A", "B")}), 1), same_type=False
    )
    assert found["testable"] == 0
    assert found["tests"] == {}


def test_one_type_counts_a_known_pair_once():
    frame = table(12)
    frame["gene_right"] = frame["gene_right"].str.replace("R", "L")
    frame = frame[frame["gene_left"] <= frame["gene_right"]].reset_index(drop=True)
    known = LigandReceptors("x", frozenset({("L05", "L01")}), 1)
    found = ligand_receptor.enrichment(frame, known, same_type=True)
    assert found["testable"] == 1
    assert 0 < found["tests"]["effect"]["p"] <= 1


def test_gmt_lines_are_read_and_others_are_refused(tmp_path):
    path = tmp_path / "sets.gmt"
    path.write_text("ONE\tabout\tA\tB\t\n\nTWO\t\tA,1.0\tC\t\t\r\n")
    assert read_gmt(path) == GeneSets("sets.gmt", {"ONE": frozenset("AB"), "TWO": frozenset("AC")})
    for text, message in (("no tabs here\n", "1 fields"), ("\n\n", "no gene set")):
        path.write_text(text)
        with pytest.raises(SpatialFormerError, match=message):
            read_gmt(path)
    with pytest.raises(SpatialFormerError):
        read_gmt(tmp_path / "absent.gmt")


def test_the_background_is_what_reached_support_and_numbers_are_exact():
    frame = table(10)
    frame[["q", "epsilon_q"]] = 0.5
    # Significant: L00-R00 and L01-R00 by effect, L02-R05 by interaction; one spilled over.
    for left, right, column in (
        ("L00", "R00", "q"),
        ("L01", "R00", "q"),
        ("L02", "R05", "epsilon_q"),
    ):
        frame.loc[(frame.gene_left == left) & (frame.gene_right == right), column] = 0.01
    spilled = (frame.gene_left == "L09") & (frame.gene_right == "R09")
    frame.loc[spilled, "q"], frame.loc[spilled, "spillover"] = 0.001, True
    library = GeneSets(
        "toy.gmt",
        {
            "hit": frozenset({"L00", "L01", "L02", "L03", "ABSENT1", "ABSENT2"}),
            "too small": frozenset({"L00", "ABSENT1", "ABSENT2"}),
        },
    )
    found = enrich(frame, [library])
    assert list(found.columns) == list(enrichment.COLUMNS)
    left = found[found["side"] == "left"].iloc[0]
    assert (left.n_hit, left.n_set, left.n_chosen, left.n_background) == (3, 4, 3, 10)
    # All three chosen of ten lie in a set of four.
    assert left.p == pytest.approx(comb(4, 3) / comb(10, 3))
    assert left.p == left.smallest_p == left.q
    assert left.fold == pytest.approx(3 / 1.2)
    assert left.genes == "L00 L01 L02"
    either = found[found["side"] == "either"].iloc[0]
    # L00 L01 L02 R00 R05 of twenty.
    assert (either.n_chosen, either.n_background) == (5, 20)
    assert either.p == pytest.approx(stats.hypergeom.sf(2, 20, 4, 5))
    assert set(found["term"]) == {"hit"}
    said = facts(frame, [library], found)
    assert said["not_computed"] is None
    assert said["smallest_p"] == found["smallest_p"].min()
    assert "GO cellular" in said["pointer"]
    other = GeneSets("GO_Cellular_Component_2023.gmt", library.sets)
    assert facts(frame, [other], found)["pointer"] is None


def test_enrichment_says_why_there_is_none():
    library = GeneSets("toy.gmt", {"mouse": frozenset({"Actb", "Gapdh", "Cd4"})})
    plain = table(5, with_p=False)
    assert "no p-values" in facts(plain, [library], enrich(plain, [library]))["not_computed"]
    frame = table(5).assign(q=1.0, epsilon_q=1.0)
    assert "no gene pair" in facts(frame, [library], enrich(frame, [library]))["not_computed"]
    frame["q"] = 0.0
    assert "species" in facts(frame, [library], enrich(frame, [library]))["not_computed"]


def test_checkpoints_agree_pair_by_pair():
    frame = table(3).iloc[:4].assign(d_diff=[-1.0, -2.0, 3.0, 4.0], epsilon=[1.0, 2.0, 3.0, 4.0])
    second = frame.assign(d_diff=[-2.0, -4.0, -6.0, 8.0], epsilon=[1.0, 2.0, 4.0, 3.0])
    third = frame.iloc[:3].assign(d_diff=[-1.0, 2.0, -3.0], epsilon=[-1.0, 1.0, 2.0])
    out, said = add_agreement(frame, {"b": second, "c": third})
    assert out["n_checkpoints"].tolist() == [3, 3, 3, 2]
    np.testing.assert_allclose(out["agree"], [1, 2 / 3, 2 / 3, np.nan])
    # Ranks 1 2 3 4 against 1 2 4 3: rho = 1 - 6 * 2 / (4 * 15).
    assert said["interaction"]["rank_correlation"] == [0.8, 1.0, 1.0]
    assert said["interaction"]["same_sign_in_all"] == pytest.approx(2 / 3, abs=1e-4)
    assert said["interaction"]["gene_pairs_of_all"] == 3
    assert said["enough"]
    assert not add_agreement(frame, {"b": second})[1]["enough"]
    assert add_agreement(frame, {"b": second})[0]["agree"].isna().all()


def test_effects_that_follow_ranks_are_told():
    frame = table(5)
    frame["d_diff"] = -1 / frame["rank_left"]
    found = effect_against_rank(frame)
    assert found["effect"]["left"] == -1.0
    assert abs(found["effect"]["right"]) < 0.5
    assert effect_against_rank(frame.head(4))["effect"]["left"] is None
