"""The Gluon lint tells other people's AlexNets from the paper's, and names each deviation."""

from pathlib import Path

import pytest

from compare.lint.judge import judge
from gluon_impl.lint import lint
from protocol.lint.record import LintRequest
from tests.support.commands import GLUON
from tests.support.linting import CAFFE, CAFFENET, CHM_145, NO_GROUPS, OWT, LintTests
from tests.support.long import but
from tests.support.refusals import refused

KNOWN = {
    "zoo": (OWT, "owt"),
    "stock": ({}, "two_column"),
    "own": ({}, "two_column"),
    "own_chm": (CHM_145, "chm-145"),
    "own_merged": (NO_GROUPS | {"norm's maps": "all"}, "merged"),
    "caffe": (CAFFE, "caffe"),
    "caffenet": (CAFFENET, "caffe"),
    "merged": (NO_GROUPS | {"norm's maps": "all"}, "merged"),
}


class TestLint(LintTests):
    backend = GLUON
    module = "examples.gluon_nets"

    def lint(self, request: LintRequest) -> None:
        lint(request)

    @pytest.mark.parametrize("name", but(KNOWN, "zoo own caffenet"))
    def test_a_known_network_is_recognised(self, name: str, tmp_path: Path) -> None:
        self.check(self.measured(name, tmp_path), *KNOWN[name])

    def test_what_the_zoo_leaves_uninitialised_is_not_judged(self, tmp_path: Path) -> None:
        record = self.measured("zoo", tmp_path)
        assert (record.edge, record.initialised) == (224, False)
        verdicts = {finding.fact: finding.verdict for finding in judge(record)}
        assert verdicts["deviations"] == verdicts["biases"] == "not seen"

    def test_a_pad_and_a_ceiling_that_give_other_maps_are_named(self, tmp_path: Path) -> None:
        record = self.measured("rounded_up", tmp_path, edge=224)
        broken = {finding.fact: finding.found for finding in judge(record) if finding.verdict == "broken"}
        assert broken["padding"] == "1 2 1 1 1"
        assert broken["map sizes"] == "54 27 13 13 13"
        assert "up" in broken["pooling rounds"]

    def test_a_graph_without_its_blocks_is_refused_by_its_name(self, tmp_path: Path) -> None:
        with refused("symbolic", "SymbolBlock"):
            self.measured("symbolic", tmp_path)
