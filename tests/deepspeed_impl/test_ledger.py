"""The ledger against torch's allocation events, at full size."""

from pathlib import Path

import pytest

from tests.support.commands import DEEPSPEED
from tests.support.ledger import far_off
from tests.support.long import long


@pytest.mark.parametrize(
    ("placement", "precision"),
    [
        ("single", "fp32"),
        long("stages", "fp32"),
        long("columns", "fp32"),
        long("single", "bf16"),
    ],
)
def test_every_byte_is_accounted_for(placement: str, precision: str, full_data: Path, tmp_path: Path) -> None:
    assert far_off(DEEPSPEED, placement, full_data, tmp_path / "run", "--precision", precision) == {}
