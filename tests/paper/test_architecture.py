"""The layer table against the paper's section 3.5 and figure 2, the 2012 layer files, and the zoo's other AlexNet."""

from dataclasses import replace
from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paper import architecture
from paper.architecture import (
    VARIANTS,
    Activation,
    Conv,
    Dropout,
    Network,
    Norm,
    Pool,
    SpatialNorm,
    network,
    variant,
)
from paper.cost import parameters
from paper.recipe import PRESETS

CAN_CROSS = ["conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"]
MAP_LAYERS = ("conv1", "pool1", "conv2", "pool2", "conv3", "conv4", "conv5", "pool5")
TWO_COLUMN_SHAPES = {
    "conv1.weight": (96, 3, 11, 11),
    "conv1.bias": (96,),
    "conv2.weight": (256, 48, 5, 5),
    "conv2.bias": (256,),
    "conv3.weight": (384, 256, 3, 3),
    "conv3.bias": (384,),
    "conv4.weight": (384, 192, 3, 3),
    "conv4.bias": (384,),
    "conv5.weight": (256, 192, 3, 3),
    "conv5.bias": (256,),
    "fc6.weight": (4096, 9216),
    "fc6.bias": (4096,),
    "fc7.weight": (4096, 4096),
    "fc7.bias": (4096,),
    "fc8.weight": (1000, 4096),
    "fc8.bias": (1000,),
}
# Weights and biases whose shapes differ from those of the paper's network.
OTHER_SHAPES: dict[str, dict[str, tuple[int, ...]]] = {
    "merged": {
        "conv2.weight": (256, 96, 5, 5),
        "conv4.weight": (384, 384, 3, 3),
        "conv5.weight": (256, 384, 3, 3),
    },
    "cross_everywhere": {
        "conv2.weight": (256, 96, 5, 5),
        "conv4.weight": (384, 384, 3, 3),
        "conv5.weight": (256, 384, 3, 3),
    },
    "half": {
        "conv1.weight": (48, 3, 11, 11),
        "conv1.bias": (48,),
        "conv2.weight": (128, 48, 5, 5),
        "conv2.bias": (128,),
        "conv3.weight": (192, 128, 3, 3),
        "conv3.bias": (192,),
        "conv4.weight": (192, 192, 3, 3),
        "conv4.bias": (192,),
    },
    "no_crossing": {"conv3.weight": (384, 128, 3, 3)},
    "cross_at=": {
        "conv3.weight": (384, 128, 3, 3),
        "fc6.weight": (4096, 4608),
        "fc7.weight": (4096, 2048),
        "fc8.weight": (1000, 2048),
    },
    "cross_at=conv2,fc7,fc8": {
        "conv2.weight": (256, 96, 5, 5),
        "conv3.weight": (384, 128, 3, 3),
        "fc6.weight": (4096, 4608),
    },
    "owt": {
        "conv1.weight": (64, 3, 11, 11),
        "conv1.bias": (64,),
        "conv2.weight": (192, 64, 5, 5),
        "conv2.bias": (192,),
        "conv3.weight": (384, 192, 3, 3),
        "conv4.weight": (256, 384, 3, 3),
        "conv4.bias": (256,),
        "conv5.weight": (256, 256, 3, 3),
    },
}


def rows(table: Network, *names: str) -> list[int]:
    by_name = {layer.name: layer.shape_out for layer in table}
    assert all(by_name[name][1] == by_name[name][2] for name in names), "maps are square"
    return [by_name[name][1] for name in names]


def two_column(preset: str = "paper", **options: object) -> Network:
    return network("two_column", PRESETS[preset], **options)  # type: ignore[arg-type]


# Geometry


@pytest.mark.parametrize(("preset", "crop"), [("paper", 227), ("chm-145", 224), ("caffe", 227), ("notes", 227)])
def test_maps_have_55_27_13_and_6_rows_in_every_preset(preset: str, crop: int) -> None:
    table = two_column(preset)
    assert table.input_shape == (3, crop, crop)
    assert rows(table, *MAP_LAYERS) == [55, 27, 27, 13, 13, 13, 13, 6]


@pytest.mark.parametrize("size", ["small", "tiny"])
@pytest.mark.parametrize("preset", list(PRESETS))
def test_maps_of_the_small_sizes_are_pooled_without_a_rest(preset: str, size: str) -> None:
    table = two_column(preset, size=size, classes=20)
    assert table.input_shape == (3, 31, 31)
    expected = [15, 7, 7, 3, 3, 3, 3, 1] if preset == "chm-145" else [31, 15, 15, 7, 7, 7, 7, 3]
    assert rows(table, *MAP_LAYERS) == expected
    for layer in table:
        if isinstance(layer, Pool):
            assert (layer.shape_in[1] - layer.window) % layer.stride == 0


@pytest.mark.parametrize("size", ["full", "small", "tiny"])
def test_every_size_has_what_the_full_one_has(size: str) -> None:
    """A preset whose conv1 is padded at the end is so at every size, or nothing small would notice the wrong side."""
    for preset in PRESETS:
        first = two_column(preset, size=size, classes=20).layers[0]
        assert isinstance(first, Conv)
        assert (first.pad_end > 0) == (preset == "chm-145")


def test_widths_of_the_small_sizes_are_a_quarter_and_a_sixteenth() -> None:
    small = {layer.name: layer.shape_out[0] for layer in two_column(size="small", classes=20).weighted()}
    tiny = {layer.name: layer.shape_out[0] for layer in two_column(size="tiny", classes=20).weighted()}
    assert list(small.values()) == [24, 64, 96, 96, 64, 1024, 1024, 20]
    assert list(tiny.values()) == [6, 16, 24, 24, 16, 256, 256, 20]


def test_224_rounds_down_to_54_rows_and_up_to_55(monkeypatch: pytest.MonkeyPatch) -> None:
    full = architecture.SIZES["full"]
    monkeypatch.setitem(architecture.SIZES, "full", replace(full, first=replace(full.first, crop=224)))
    assert rows(two_column("paper"), "conv1") == [54]
    assert rows(two_column("chm-145"), "conv1") == [55]


@pytest.mark.parametrize(
    ("preset", "size", "expected"),
    [
        # layers-147.cfg, whose partialSum divides 26 x 26 in conv2 and 11 x 11 in conv5.
        ("chm-145", "full", [55, 28, 26, 13, 13, 13, 11, 6]),
        ("paper", "small", [31, 16, 14, 7, 7, 7, 5, 3]),
    ],
)
def test_the_run_without_overlap_had_other_paddings_and_came_down_to_the_same_maps(
    preset: str, size: str, expected: list[int]
) -> None:
    table = two_column(preset, size=size, classes=20, pool_window=2, as_147=True)
    assert rows(table, *MAP_LAYERS) == expected
    assert [layer.pad for layer in table if isinstance(layer, Conv)][1:] == [1, 1, 1, 0]
    overlapping = two_column(preset, size=size, classes=20)
    assert rows(table, "pool5") == rows(overlapping, "pool5")
    # Here windows of 2 leave all maps as large as windows of 3 do.
    alone = two_column(preset, size=size, classes=20, pool_window=2)
    assert rows(alone, *MAP_LAYERS) == rows(overlapping, *MAP_LAYERS)


def test_ceil_geometry_pads_conv1_by_three_at_the_end_and_nothing_else() -> None:
    pads = {layer.name: layer.pad_end for layer in two_column("chm-145") if isinstance(layer, Conv)}
    assert pads == {"conv1": 3, "conv2": 0, "conv3": 0, "conv4": 0, "conv5": 0}
    assert not any(layer.pad_end for layer in two_column("paper") if isinstance(layer, Conv))


def test_kernels_strides_and_paddings_are_those_of_section_3_5() -> None:
    convs = {layer.name: (layer.kernel, layer.stride, layer.pad) for layer in two_column() if isinstance(layer, Conv)}
    assert convs == {
        "conv1": (11, 4, 0),
        "conv2": (5, 1, 2),
        "conv3": (3, 1, 1),
        "conv4": (3, 1, 1),
        "conv5": (3, 1, 1),
    }


def test_pooling_overlaps_and_the_other_pooling_has_the_same_maps() -> None:
    assert [(layer.window, layer.stride) for layer in two_column() if isinstance(layer, Pool)] == [(3, 2)] * 3
    apart = two_column(pool_window=2)
    assert [(layer.window, layer.stride) for layer in apart if isinstance(layer, Pool)] == [(2, 2)] * 3
    assert rows(apart, *MAP_LAYERS) == [55, 27, 27, 13, 13, 13, 13, 6]
    assert apart.parameter_shapes() == TWO_COLUMN_SHAPES


@pytest.mark.parametrize("size", ["full", "small", "tiny"])
@pytest.mark.parametrize("preset", list(PRESETS))
@pytest.mark.parametrize(
    "name", ["two_column", "merged", "half", "no_crossing", "cross_everywhere", "owt", "cross_at="]
)
def test_each_layer_reads_what_the_one_before_it_wrote(name: str, preset: str, size: str) -> None:
    table = network(name, PRESETS[preset], size, 20)
    shape = table.input_shape
    for layer in table:
        assert layer.shape_in == shape
        assert layer.shape_out[0] % table.columns == 0
        shape = layer.shape_out
    assert shape == (20, 1, 1)
    assert len({layer.name for layer in table}) == len(table.layers)


# Order of the layers

CLASSIC = (
    "conv1 relu1 norm1 pool1 conv2 relu2 norm2 pool2 conv3 relu3 conv4 relu4 conv5 relu5 pool5 "
    "fc6 relu6 drop6 fc7 relu7 drop7 fc8"
)


@pytest.mark.parametrize(
    ("preset", "order"),
    [
        ("paper", CLASSIC),
        ("caffe", CLASSIC),
        ("notes", CLASSIC),
        (
            "chm-145",
            "conv1 norm1 pool1 relu1 conv2 relu2 norm2 rnorm2 pool2 conv3 relu3 conv4 relu4 conv5 relu5 pool5 "
            "fc6 relu6 drop6 fc7 relu7 drop7 fc8",
        ),
    ],
)
def test_layers_follow_each_other_as_the_preset_says(preset: str, order: str) -> None:
    assert [layer.name for layer in two_column(preset)] == order.split()


def test_each_ablation_takes_out_just_its_layers() -> None:
    names = [layer.name for layer in two_column()]
    without_norm = [name for name in names if name not in ("norm1", "norm2")]
    assert [layer.name for layer in two_column(norm=False)] == without_norm
    # Run 148, the 2012 run without response norm, dropped the rnorm of layer 2 too.
    old = [layer.name for layer in two_column("chm-145", norm=False)]
    assert old[:7] == ["conv1", "pool1", "relu1", "conv2", "relu2", "pool2", "conv3"]
    without_dropout = [name for name in names if name not in ("drop6", "drop7")]
    assert [layer.name for layer in two_column(dropout=False)] == without_dropout
    tanh = two_column(activation="tanh")
    assert {layer.function for layer in tanh if isinstance(layer, Activation)} == {"tanh"}
    assert [layer.name.replace("tanh", "relu") for layer in tanh] == names


def test_the_extra_norm_of_2012_lies_within_a_map() -> None:
    (extra,) = (layer for layer in two_column("chm-145") if isinstance(layer, SpatialNorm))
    assert (extra.size, extra.scale, extra.beta) == (5, 0.001, 0.75)
    # minDiv, which is 2, is read for cross-map norms alone: this one's denominator begins at 1.
    assert extra.k == 1
    assert extra.shape_out == (256, 27, 27)


@pytest.mark.parametrize(("preset", "inverted"), [("paper", False), ("chm-145", False), ("caffe", True)])
def test_dropout_is_inverted_in_caffe_alone(preset: str, inverted: bool) -> None:
    dropouts = [(layer.name, layer.inverted) for layer in two_column(preset) if isinstance(layer, Dropout)]
    assert dropouts == [("drop6", inverted), ("drop7", inverted)]
    assert list(two_column(preset).dropouts()) == [layer for layer in two_column(preset) if isinstance(layer, Dropout)]


# Columns


def test_weights_of_the_papers_network() -> None:
    assert two_column().parameter_shapes() == TWO_COLUMN_SHAPES
    assert list(two_column().parameter_shapes()) == list(TWO_COLUMN_SHAPES)


@pytest.mark.parametrize("preset", ["chm-145", "caffe"])
def test_other_presets_have_the_papers_weights(preset: str) -> None:
    assert two_column(preset).parameter_shapes() == TWO_COLUMN_SHAPES


@pytest.mark.parametrize("name", OTHER_SHAPES)
def test_weights_of_the_variants(name: str) -> None:
    assert network(name, PRESETS["paper"]).parameter_shapes() == {**TWO_COLUMN_SHAPES, **OTHER_SHAPES[name]}


def test_conv3_of_the_notes_reads_its_own_column() -> None:
    assert two_column("notes").parameter_shapes() == {**TWO_COLUMN_SHAPES, "conv3.weight": (384, 128, 3, 3)}
    # Which forbids columns to meet, not a network without columns to read all of its maps.
    assert network("merged", PRESETS["notes"]).parameter_shapes()["conv3.weight"] == (384, 256, 3, 3)


def test_columns_of_the_paper_cross_at_conv3_and_the_dense_layers() -> None:
    table = two_column()
    assert table.columns == 2
    assert [layer.name for layer in table.weighted() if layer.crosses] == ["conv3", "fc6", "fc7", "fc8"]
    # On one device the local layers take two groups; conv1's input has no columns.
    assert [layer.groups for layer in table.weighted()] == [1, 2, 1, 2, 2, 1, 1, 1]


@pytest.mark.parametrize("name", ["merged", "half", "owt"])
def test_one_column_has_nothing_to_cross_and_no_groups(name: str) -> None:
    table = network(name, PRESETS["paper"])
    assert table.columns == 1
    assert not any(layer.crosses for layer in table.weighted())
    assert [layer.groups for layer in table.weighted()] == [1] * 8


@pytest.mark.parametrize(("preset", "groups"), [("paper", 2), ("chm-145", 2), ("caffe", 1), ("notes", 2)])
def test_the_norm_stays_within_a_column_except_in_caffe(preset: str, groups: int) -> None:
    norms = [layer for layer in two_column(preset) if isinstance(layer, Norm)]
    assert [(layer.groups, layer.shape_out[0]) for layer in norms] == [(groups, 96), (groups, 256)]
    assert all(layer.scale == PRESETS[preset].norm for layer in norms)


@given(crossing=st.sets(st.sampled_from(CAN_CROSS)), size=st.sampled_from(["full", "small", "tiny"]))
def test_a_local_layer_reads_half_of_the_maps_below_and_a_crossing_one_all(crossing: set[str], size: str) -> None:
    table = network(f"cross_at={','.join(crossing)}", PRESETS["paper"], size, 20)
    for layer in table.weighted():
        inputs = prod(layer.weight_shape[1:])  # numbers that one output reads
        below = layer.shape_in[0]
        if isinstance(layer, Conv):
            inputs //= layer.kernel**2
        else:
            below *= layer.shape_in[1] * layer.shape_in[2]
        assert layer.crosses == (layer.name in crossing)
        assert inputs == (below if layer.name in crossing or layer.name == "conv1" else below // 2)
        assert layer.weight_shape[0] == layer.shape_out[0] == layer.bias_shape[0]


# The zoo's network


@pytest.mark.parametrize("preset", ["paper", "caffe", "notes"])
def test_one_weird_trick_is_another_network(preset: str) -> None:
    table = network("owt", PRESETS[preset])
    assert table.input_shape == (3, 224, 224)
    assert rows(table, *MAP_LAYERS) == [55, 27, 27, 13, 13, 13, 13, 6]
    assert [layer.shape_out[0] for layer in table.weighted()] == [64, 192, 384, 256, 256, 4096, 4096, 1000]
    assert not any(isinstance(layer, Norm | SpatialNorm) for layer in table)
    first = table.layers[0]
    assert isinstance(first, Conv)
    assert (first.kernel, first.stride, first.pad) == (11, 4, 2)


# Names


@pytest.mark.parametrize(
    ("name", "crossing"),
    [
        ("cross_at=", set()),
        ("cross_at=conv2", {"conv2"}),
        ("cross_at=fc8,conv3,fc6,fc7", {"conv3", "fc6", "fc7", "fc8"}),
        ("cross_at=conv2,conv2", {"conv2"}),
    ],
)
def test_cross_at_names_the_layers_that_cross(name: str, crossing: set[str]) -> None:
    assert variant(name).crossing == crossing
    assert variant(name).columns == 2


def test_cross_at_the_papers_layers_is_the_papers_network() -> None:
    assert network("cross_at=conv3,fc6,fc7,fc8", PRESETS["paper"]).layers == two_column().layers


@pytest.mark.parametrize(("name", "unknown"), [("conv1", "conv1"), ("pool5,conv3,fc9", "fc9, pool5"), ("all", "all")])
def test_columns_cannot_cross_elsewhere(name: str, unknown: str) -> None:
    sentence = f"^columns can cross at conv2, conv3, conv4, conv5, fc6, fc7, fc8, not at {unknown}$"
    with pytest.raises(ValueError, match=sentence):
        variant(f"cross_at={name}")


def test_an_unknown_variant_or_size_is_answered_with_those_there_are() -> None:
    names = ", ".join((*VARIANTS, "cross_at=LAYER,LAYER"))
    said = f"^there is no variant 'columns'; did you mean two_column or four_column\\? there are {names}$"
    with pytest.raises(ValueError, match=said):
        network("columns", PRESETS["paper"])
    with pytest.raises(ValueError, match=r"^there is no size 'large'; there are full, small, tiny$"):
        two_column(size="large")


def test_columns_refuse_what_they_cannot_share() -> None:
    with pytest.raises(ValueError, match=r"^fc8 has 7 maps, which 2 columns cannot share$"):
        two_column(classes=7)
    assert network("merged", PRESETS["paper"], classes=7).layers[-1].shape_out == (7, 1, 1)


def test_a_sixth_convolution_goes_over_the_last_pooling_layer() -> None:
    table = network("sixth_conv", PRESETS["paper"])
    names = [layer.name for layer in table]
    assert len(set(names)) == len(names)
    at = names.index("pool5")
    assert names[at : at + 4] == ["pool5", "conv6", "relu_conv6", "fc6"]
    sixth = table.layers[at + 1]
    assert isinstance(sixth, Conv)
    assert (sixth.shape_in, sixth.shape_out, sixth.groups, sixth.crosses) == ((256, 6, 6), (256, 6, 6), 2, False)
    assert parameters(table) - parameters(two_column()) == 256 * 128 * 9 + 256
    assert network("sixth_conv", PRESETS["paper"], "tiny").parameter_shapes()["conv6.weight"] == (16, 8, 3, 3)
    # What no recipe says of it, it has from conv5.
    for preset in (own for own in PRESETS.values() if "conv5" in own.deviation):
        assert preset.deviation_of("conv6") == preset.deviation["conv5"]
        assert preset.bias_of("conv6") == preset.bias_of("conv5") == preset.bias_start * ("conv5" in preset.ones)
