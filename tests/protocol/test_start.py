"""Which weights and which mean training begins with, and which models and layers are refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from protocol.experiment.cases import CASES
from protocol.experiment.experiment import open_experiment
from protocol.experiment.start import Start
from protocol.runs.request import make_evaluate, make_outputs, make_train
from tests.support.finetuning import MEAN, SPEC, write
from tests.support.refusals import refused


def test_a_model_brings_its_network_weights_and_mean(data: Path, tmp_path: Path) -> None:
    model = write(tmp_path / "model")
    asked = make_train("gluon", case="tiny", start=tmp_path / "model", data=data, out=tmp_path / "run")
    assert (asked.case.variant, asked.case.preset, asked.case.size) == (SPEC.variant, SPEC.preset, SPEC.size)
    experiment = open_experiment(asked.case, data, 0, asked.start)
    for name, value in experiment.weights().items():
        np.testing.assert_array_equal(value, model.tensors[name])
    assert (experiment.training.mean == MEAN).all()
    assert (experiment.testing.mean == MEAN).all()


def test_the_last_layer_is_drawn_where_classes_differ(data: Path, tmp_path: Path) -> None:
    model = write(tmp_path / "model", classes=("x",) * 20)
    asked = make_train("gluon", case="tiny", start=tmp_path / "model", data=data, out=tmp_path / "run")
    assert asked.case.fresh == ("fc8",)
    found = open_experiment(asked.case, data, 0, asked.start).weights()
    assert np.abs(found["fc8.weight"] - model.tensors["fc8.weight"]).max() > 0
    np.testing.assert_array_equal(found["fc7.weight"], model.tensors["fc7.weight"])


def test_what_is_plain_training_is_recorded_as_before() -> None:
    """Records of runs that were made before models could be begun with stay equal to new ones."""
    content = CASES["photos"].content()
    assert not {"start", "fresh", "frozen"} & content.keys()
    assert replace(CASES["photos"], frozen=("conv1",)).content()["frozen"] == ["conv1"]


def test_a_mean_image_goes_on_beyond_its_rim() -> None:
    image = np.arange(3 * 4 * 4, dtype=np.float32).reshape(3, 4, 4)
    mean = Start({}, image).mean(8)
    assert mean.shape == (8, 8, 3)
    np.testing.assert_array_equal(mean[2:6, 2:6], image.transpose(1, 2, 0))
    np.testing.assert_array_equal(mean[0, 0], image[:, 0, 0])
    np.testing.assert_array_equal(mean[7, 7], image[:, 3, 3])


def test_what_does_not_fit_is_refused(data: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    write(model)
    fixed: dict[str, Any] = {"case": "tiny", "data": data, "out": tmp_path / "run"}
    with refused("no model in", "import"):
        make_train("gluon", start=tmp_path / "absent", **fixed)
    with refused("--start brings its own variant"):
        make_train("gluon", start=model, variant="half", **fixed)
    with refused("conv9", "conv1"):
        make_train("gluon", start=model, freeze="conv9", **fixed)
    with refused("--freeze leaves no layer"):
        make_train("gluon", freeze="conv1,conv2,conv3,conv4,conv5,fc6,fc7,fc8", **fixed)
    with refused("part", "validation"):
        make_outputs("gluon", start=model, store="photos-small", parts="validation", data=data)
    asked = make_train("gluon", start=model, **fixed)
    write(tmp_path / "other", seed=9)
    with refused("not the one that this run began with"):
        open_experiment(asked.case, data, 0, tmp_path / "other")
    assert make_evaluate("gluon", start=model, store="photos-small", data=data).case.store == "photos-small"
    with refused("either a run", "--start"):
        make_evaluate("gluon", start=model, data=data, out=tmp_path / "run")
    write(tmp_path / "named", classes=("x",) * 20)
    with refused("answers to other classes", "'x'"):
        make_evaluate("gluon", start=tmp_path / "named", store="photos-small", data=data)
    write(tmp_path / "more", replace(SPEC, classes=30))
    with refused("answers to 30 classes"):
        make_evaluate("gluon", start=tmp_path / "more", store="photos-small", data=data)
