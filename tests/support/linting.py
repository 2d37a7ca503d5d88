"""What the two backends' lints must tell of networks that other people wrote."""

import os
import subprocess
from pathlib import Path
from typing import ClassVar

import pytest

from compare.lint.judge import BROKEN, judge, likeness
from protocol.lint.record import LintRecord, LintRequest, make_lint_request, read_lint
from tests.support.commands import Backend, environment
from tests.support.refusals import refused

OWT = {
    "maps": "64 192 384 256 256",
    "kernel depth": "3 64 192 384 256",
    "padding": "2 2 1 1 1",
    "read one column": "none",
    "read both columns": "conv2 conv3 conv4 conv5 fc6 fc7 fc8",
    "parameters": "61,100,840",
    "norm after": "none",
}
CAFFE = {"norm's alpha": "2e-05", "norm's k": "1", "norm's maps": "all"}
CAFFENET = {**CAFFE, "norm and pooling": "norm after pooling"}
NO_GROUPS = {
    "kernel depth": "3 96 256 384 384",
    "read one column": "none",
    "read both columns": "conv2 conv3 conv4 conv5 fc6 fc7 fc8",
    "parameters": "62,378,344",
}
CHM_145 = {
    "padding": "0+3 2 1 1 1",
    "norm and ReLU": "conv1 norm before ReLU, conv2 norm after ReLU",
    "norm's alpha": "2e-05",
    "norm within a map": "conv2",
    "deviations": "conv1 0.01, conv2 0.01, conv3 0.03, conv4 0.03, conv5 0.03, fc6 0.01, fc7 0.01, fc8 0.01",
}
MISUSES = {
    "no factory": ("MODULE", ("MODULE", "module:factory")),
    "no such module": ("no_such_module:net", ("no_such_module", "cannot be imported")),
    "no such factory": ("MODULE:nothing", ("MODULE", "no nothing")),
    "a factory that raises": ("MODULE:failing", ("failing", "RuntimeError: no weights here")),
    "what is no network": ("MODULE:three", ("makes a int",)),
    "a network without weights": ("MODULE:weightless", ("no convolution",)),
    "a network of other images": ("MODULE:digits", ("(1, 3, 224, 224) or (1, 3, 227, 227)",)),
    "a network of two outputs": ("MODULE:Twice", ("a tuple rather than one",)),
}


class LintTests:
    """``backend``, the ``module`` that holds the factories, and the backend's verb are what a subclass adds."""

    backend: ClassVar[Backend]
    module: ClassVar[str]

    def lint(self, request: LintRequest) -> None:
        raise NotImplementedError

    def measured(self, factory: str, folder: Path, edge: int | None = None) -> LintRecord:
        self.lint(make_lint_request(self.backend.name, f"{self.module}:{factory}", edge, folder))
        return read_lint(folder)

    def check(self, record: LintRecord, broken: dict[str, str], resembles: str) -> None:
        """The record must break just the facts of ``broken``, in these words, and be most like ``resembles``."""
        assert {finding.fact: finding.found for finding in judge(record) if finding.verdict == BROKEN} == broken
        assert likeness(record).name == resembles

    @pytest.mark.parametrize("name", MISUSES)
    def test_what_cannot_be_measured_is_refused_with_one_sentence(self, name: str, tmp_path: Path) -> None:
        spec, words = MISUSES[name]
        with refused(*(word.replace("MODULE", self.module) for word in words)):
            self.lint(make_lint_request(self.backend.name, spec.replace("MODULE", self.module), None, tmp_path / "out"))
        assert os.listdir(tmp_path) == []

    def test_a_refusal_ends_the_command_line_with_status_2(self, tmp_path: Path) -> None:
        command = self.backend.command("lint", f"{self.module}:failing", "--out", tmp_path / "out")
        done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=300)
        assert done.returncode == 2
        assert [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert "Traceback" not in done.stderr
        assert os.listdir(tmp_path) == []
