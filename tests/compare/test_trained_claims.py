"""What the audit takes from the claims that train: this machine's verdicts where it has some, else the reference's."""

from pathlib import Path

import pytest

from compare.audit.trained_claims import read
from tests.support.refusals import refused

HEAD = "claim,primary,verdict,gluon,deepspeed,low,high,seeds,p_holm,reason\n"
PCA = "pca,False,inconclusive,+1 points,+2 points,-1,2,12,,why\n"


def written(folder: Path, *rows: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "claims.csv").write_text(HEAD + "".join(rows))
    return folder


def test_ones_own_verdicts_stand_before_the_references_and_hide_no_others(tmp_path: Path) -> None:
    own = read(written(tmp_path / "own", PCA), "this machine")
    lrn = PCA.replace("pca", "lrn").replace("inconclusive", "consistent at small scale")
    reference = read(written(tmp_path / "reference", PCA.replace("12", "6"), lrn), "the reference")
    found = reference.under(own).rows
    assert {name: row["source"] for name, row in found.items()} == {"pca": "this machine", "lrn": "the reference"}
    assert found["pca"]["seeds"] == 12
    assert read(tmp_path, "nowhere").rows == {}


@pytest.mark.parametrize(
    ("row", "word"),
    [
        (PCA.replace("inconclusive", "proven"), "'proven'"),
        (PCA.replace(",12,", ",many,"), "seeds"),
        (PCA.replace(",12,", ",,"), "seeds"),
        (PCA.replace("-1,2", "low,2"), "low"),
    ],
)
def test_a_damaged_table_is_refused(tmp_path: Path, row: str, word: str) -> None:
    with refused("claims.csv", word):
        read(written(tmp_path / "own", row), "this machine")
