"""The ledger against MXNet's own counters, at full size."""

from pathlib import Path

import pytest

from tests.support.commands import GLUON
from tests.support.ledger import far_off
from tests.support.long import long


@pytest.mark.parametrize("placement", ["single", *(long(name) for name in ("columns", "stages", "replicas"))])
def test_every_byte_is_accounted_for(placement: str, full_data: Path, tmp_path: Path) -> None:
    assert far_off(GLUON, placement, full_data, tmp_path / "run") == {}
