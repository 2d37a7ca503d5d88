"""The torch lint tells other people's AlexNets from the paper's, and names each deviation."""

from pathlib import Path

import pytest

from compare.lint.judge import KEPT, NOT_SEEN, judge
from deepspeed_impl.lint import lint
from protocol.lint.record import LintRequest, make_lint_request, read_lint
from tests.support.commands import DEEPSPEED
from tests.support.linting import CAFFE, CAFFENET, CHM_145, NO_GROUPS, OWT, LintTests
from tests.support.long import but
from tests.support.refusals import refused

NO_NORM = {"norm after": "none"}
KNOWN = {
    "stock": ({}, "two_column"),
    "Branches": ({}, "two_column"),
    "own": ({}, "two_column"),
    "own_chm": (CHM_145, "chm-145"),
    "own_owt": (OWT, "owt"),
    "batch_norm": (NO_NORM | {"parameters": "60,965,416, 192 of them in none of the layers"}, "two_column"),
    "always_dropping": (NO_NORM | {"dropout's scale": "on at test too"}, "two_column"),
    "caffe": (CAFFE, "caffe"),
    "caffenet": (CAFFENET, "caffe"),
}
DEVIANTS = {
    "alpha_unscaled": {"norm's alpha": "2e-05"},
    "k_one": {"norm's k": "1"},
    "window_of_nine": {"norm's window": "9"},
    "norm_before_relu": {"norm and ReLU": "norm before ReLU"},
    "norm_after_pooling": {"norm and pooling": "norm after pooling"},
    "no_norm": NO_NORM,
    "no_groups": NO_NORM | NO_GROUPS,
    "padded_224": NO_NORM | {"padding": "2 2 1 1 1"},
    "no_overlap": NO_NORM | {"pooling's windows": "2 every 2", "pooling rounds": "down"},
    "average": NO_NORM | {"pooling takes": "the average"},
    # What saturates does not show whether a norm follows.
    "tanh": {"nonlinearity": "tanh"},
    "dropout_early": NO_NORM | {"dropout after": "conv5 fc6"},
    "dropout_of_a_third": NO_NORM | {"dropout's share": "0.3"},
    "ones_everywhere": NO_NORM | {"biases": "1 1 1 1 1 1 1 1"},
    "wide": NO_NORM | {"deviations": "0.02"},
    "softmax_inside": NO_NORM,
    "size_is_maps": {"norm's window": "13 or more", "norm's maps": "all", "norm's alpha": "2.1e-06"},
    "strong_norm": {"norm's alpha": "0.001"},
    "up_to_six": {"nonlinearity": "ReLU up to 6"},
    "five_classes": NO_NORM | {"classes": "5"},
}


# Of small networks, what must be said of a fact: None, that it was not seen.
ODD: dict[str, dict[str, str | None]] = {
    "normalised_after_dropout": {"dropout after": None, "dropout's share": None, "dropout's scale": None},
    "trained_before_relu": {"dropout after": "fc2", "dropout's share": "0.5", "dropout's scale": None},
    "trained_after_relu": {"dropout after": "fc2", "dropout's share": "0.5", "dropout's scale": None},
    "limited_then_normed": {"nonlinearity": "conv1 ReLU up to a limit, fc2 ReLU", "norm after": "conv1"},
    "normed_then_limited": {"nonlinearity": "conv1 ReLU up to a limit, fc2 ReLU", "norm after": None},
    "normed_after_tanh": {"norm after": None, "norm within a map": None},
    "dropped_to_another_value": {"dropout after": None, "dropout's share": None},
    "holes_in_the_kernel": {"strides": None, "padding": None},
    "a_long_stride": {"strides": None, "padding": None},
    "pooled_over_many_rows": {"pooling's windows": None, "pooling after": "conv1"},
    "groups": {"classes": "10"},
}


class TestLint(LintTests):
    backend = DEEPSPEED
    module = "examples.torch_nets"

    def lint(self, request: LintRequest) -> None:
        lint(request)

    @pytest.mark.parametrize("name", but(KNOWN, "stock own_chm"))
    def test_a_known_network_is_recognised(self, name: str, tmp_path: Path) -> None:
        self.check(self.measured(name, tmp_path), *KNOWN[name])

    @pytest.mark.parametrize("name", but(DEVIANTS, "k_one norm_before_relu average five_classes"))
    def test_each_deviation_is_named_and_nothing_else(self, name: str, tmp_path: Path) -> None:
        record = self.measured(f"deviant.{name}", tmp_path)
        findings = {finding.fact: finding.found for finding in judge(record) if finding.verdict == "broken"}
        assert findings == DEVIANTS[name]

    def test_torchvisions_network_is_owt_with_dropout_elsewhere(self, tmp_path: Path) -> None:
        record = self.measured("torchvision", tmp_path)
        assert record.edge == 224
        found = {finding.fact: finding for finding in judge(record)}
        for fact, words in (OWT | {"dropout after": "conv5 fc6"}).items():
            assert found[fact].found == words
            assert found[fact].verdict == "broken"
        assert found["deviations"].verdict == found["biases"].verdict == "broken"
        assert found["maps"].note == "as in owt"
        assert found["pooling's windows"].verdict == KEPT
        assert found["norm's k"].verdict == "not seen"

    def test_a_softmax_inside_is_said(self, tmp_path: Path) -> None:
        record = self.measured("deviant.softmax_inside", tmp_path)
        (output,) = (finding for finding in judge(record) if finding.fact == "output")
        assert (output.found, output.verdict) == ("probabilities", KEPT)
        assert "softmax is inside" in output.note

    def test_batch_normalisation_everywhere_hides_no_dropout(self, tmp_path: Path) -> None:
        found = {finding.fact: finding for finding in judge(self.measured("normalised", tmp_path))}
        assert (found["dropout after"].found, found["dropout after"].verdict) == ("fc6 fc7", KEPT)
        assert (found["dropout's share"].found, found["dropout's share"].verdict) == ("0.5", KEPT)
        # Its scale cannot be told from the normalisation's own.
        assert found["dropout's scale"].verdict == NOT_SEEN

    @pytest.mark.parametrize("name", but(ODD, "normalised_after_dropout normed_then_limited a_long_stride"))
    def test_what_does_not_show_is_not_seen(self, name: str, tmp_path: Path) -> None:
        lint(make_lint_request("deepspeed", f"examples.torch_odd:odd.{name}", None, tmp_path))
        found = {finding.fact: finding for finding in judge(read_lint(tmp_path))}
        for fact, words in ODD[name].items():
            assert (found[fact].found, found[fact].verdict == NOT_SEEN) == (words or "", words is None), fact

    def test_nothing_of_anybody_elses_is_written_over(self, tmp_path: Path) -> None:
        (tmp_path / "lint.json").write_text('{"mine": 1}')
        with refused("lint.json", "not of this project"):
            lint(make_lint_request("deepspeed", "examples.torch_odd:odd.groups", None, tmp_path))
        assert (tmp_path / "lint.json").read_text() == '{"mine": 1}'

    def test_lazy_layers_take_their_shapes_first(self, tmp_path: Path) -> None:
        found = {finding.fact: finding.found for finding in judge(self.measured("lazy", tmp_path))}
        assert (found["maps"], found["units"], found["classes"]) == ("96 256", "64", "10")
        assert found["dropout after"] == "fc3"

    def test_a_product_at_each_place_is_refused_with_a_sentence(self, tmp_path: Path) -> None:
        with refused("operation 1", "rows for one image"):
            self.measured("AlongMaps", tmp_path)

    def test_a_layer_of_one_map_is_measured(self, tmp_path: Path) -> None:
        found = {finding.fact: finding.found for finding in judge(self.measured("one_map", tmp_path))}
        assert (found["maps"], found["nonlinearity"]) == ("1", "ReLU")
        assert found["pooling's windows"] == "3 every 2"

    def test_products_written_as_sums_are_seen(self, tmp_path: Path) -> None:
        record = self.measured("Einsum", tmp_path)
        assert [operation.weight for operation in record.operations] == [[8, 3, 11, 11], [32, 8], [10, 32]]
        assert record.unseen == 0
        found = {finding.fact: finding.found for finding in judge(record)}
        assert (found["units"], found["classes"]) == ("32", "10")

    def test_a_single_window_shows_no_stride(self, tmp_path: Path) -> None:
        found = {finding.fact: finding.found for finding in judge(self.measured("single_window", tmp_path))}
        assert found["pooling's windows"] == "6, a single window"

    def test_torchscript_is_refused_by_its_name(self, tmp_path: Path) -> None:
        with refused("scripted", "TorchScript"):
            self.measured("scripted", tmp_path)
