"""The ledger against torch's allocation events, at full size."""

from pathlib import Path

import pytest

from tests.commands import DEEPSPEED
from tests.ledger import far_off


@pytest.mark.parametrize(
    ("placement", "precision"), [("single", "fp32"), ("stages", "fp32"), ("columns", "fp32"), ("single", "bf16")]
)
def test_every_byte_is_accounted_for(placement: str, precision: str, full_data: Path, tmp_path: Path) -> None:
    assert far_off(DEEPSPEED, placement, full_data, tmp_path / "run", "--precision", precision) == {}
