"""The layer table: what the network is, whichever framework carries it out.

    table = network("two_column", PRESETS["paper"])
    for layer in table: print(layer.name, layer.shape_in, "->", layer.shape_out)

The paper's network (section 3.5, figure 2) has two *columns*, one a GPU. A layer is *local* when each column
reads its own half of the maps below, and *crosses* when each column reads both halves:

    column 0   conv1 - conv2 -+- conv3 - conv4 - conv5 -+- fc6 -+- fc7 -+- fc8
                              X                         X       X       X
    column 1   conv1 - conv2 -+- conv3 - conv4 - conv5 -+- fc6 -+- fc7 -+- fc8

Shapes are those of the whole layer, columns stacked; column c of C holds maps [c*M/C, (c+1)*M/C).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, prod

from paper.names import unknown
from paper.recipe import ALL_MAPS, LAYERS, STANDARD_ORDER, NormScale, Preset

Shape = tuple[int, int, int]  # maps, rows, columns of pixels


@dataclass(frozen=True)
class Layer:
    """One elementary step. ``columns`` is how many columns it is carried out in."""

    name: str
    shape_in: Shape
    shape_out: Shape
    columns: int


@dataclass(frozen=True)
class Weighted(Layer):
    """A layer with parameters.

    ``crosses``: each column reads the maps of all columns. ``groups``: how many groups one device that holds all
    columns carries the layer out in; 1 where it crosses, and in conv1, whose input has no columns.
    """

    crosses: bool = False
    groups: int = 1

    @property
    def weight_shape(self) -> tuple[int, ...]:
        raise NotImplementedError

    @property
    def bias_shape(self) -> tuple[int, ...]:
        return (self.shape_out[0],)


@dataclass(frozen=True)
class Conv(Weighted):
    """Convolution. ``pad`` on every side, ``pad_end`` more at the bottom and the right."""

    kernel: int = 1
    stride: int = 1
    pad: int = 0
    pad_end: int = 0

    @property
    def weight_shape(self) -> tuple[int, ...]:
        return (self.shape_out[0], self.shape_in[0] // self.groups, self.kernel, self.kernel)


@dataclass(frozen=True)
class Local(Weighted):
    """A convolution of stride 1 whose weights are not shared: each place has kernels and biases of its own."""

    kernel: int = 1
    pad: int = 0

    @property
    def weight_shape(self) -> tuple[int, ...]:
        maps, rows, columns = self.shape_out
        return (maps, rows, columns, self.shape_in[0], self.kernel, self.kernel)

    @property
    def bias_shape(self) -> tuple[int, ...]:
        return self.shape_out


@dataclass(frozen=True)
class Dense(Weighted):
    """A fully-connected layer; reads its input flattened map by map."""

    @property
    def weight_shape(self) -> tuple[int, ...]:
        return (self.shape_out[0], prod(self.shape_in) // self.groups)


@dataclass(frozen=True)
class Activation(Layer):
    function: str = "relu"


@dataclass(frozen=True)
class Norm(Layer):
    """Response norm across adjacent maps (section 3.3)."""

    scale: NormScale = NormScale()

    @property
    def groups(self) -> int:
        """Into how many separate runs of maps the window is confined."""
        return 1 if self.scale.window == ALL_MAPS else self.columns


@dataclass(frozen=True)
class SpatialNorm(Layer):
    """The 2012 code's second norm, ``a / (k + scale / size^2 * sum(a^2))^beta`` over a square within a map.

    Its constant is 1: the code reads ``minDiv``, the 2 of the other norm, for norms across maps alone, and its kernel
    for norms within maps adds 1.
    """

    size: int = 5
    scale: float = 0.001
    beta: float = 0.75
    k: float = 1.0


@dataclass(frozen=True)
class Pool(Layer):
    """Max pooling (section 3.4). Where sizes are rounded up, the last windows reach beyond the map."""

    window: int = 3
    stride: int = 2

    @property
    def pad_end(self) -> int:
        """Rows that the last windows reach beyond the bottom, and columns beyond the right."""
        return max(0, (self.shape_out[1] - 1) * self.stride + self.window - self.shape_in[1])


@dataclass(frozen=True)
class Dropout(Layer):
    """Half of the units are zeroed in training (section 4.2).

    ``inverted``: the survivors are doubled in training and nothing is done at test; otherwise all are halved at test.
    """

    inverted: bool = False


@dataclass(frozen=True)
class Network:
    """An ordered layer table."""

    variant: str
    columns: int
    input_shape: Shape
    classes: int
    layers: tuple[Layer, ...]

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.layers)

    @property
    def norm_spans_columns(self) -> bool:
        """Whether a response norm reads maps of more than one column's run."""
        return any(isinstance(layer, Norm) and layer.groups == 1 for layer in self.layers)

    @property
    def kernels(self) -> str:
        """The canonical name of what goes over the image: conv1's weights, unless the variant has no conv1."""
        return f"{self.layers[0].name}.weight"

    def weighted(self) -> Iterator[Weighted]:
        return (layer for layer in self.layers if isinstance(layer, Weighted))

    def dropouts(self) -> Iterator[Dropout]:
        return (layer for layer in self.layers if isinstance(layer, Dropout))

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Canonical name -> shape, in the order of the table."""
        shapes: dict[str, tuple[int, ...]] = {}
        for layer in self.weighted():
            shapes[f"{layer.name}.weight"] = layer.weight_shape
            shapes[f"{layer.name}.bias"] = layer.bias_shape
        return shapes


@dataclass(frozen=True)
class First:
    """What conv1 sees and how it goes over it: a crop's edge, kernel, stride and padding."""

    crop: int
    kernel: int
    stride: int
    pad: int


@dataclass(frozen=True)
class Size:
    """How large the network is built.

    ``width``: of the paper's maps and units; ``store``: edge of the stored images; ``first``: conv1, and ``ceil``: it
    where sizes are rounded up, so that its last windows reach beyond the image.
    """

    name: str
    width: Fraction
    store: int
    first: First
    ceil: First


# At 31 pixels and stride 1 the maps run 31, 15, 7, 3: like the paper's 55, 27, 13, 6, every pooling is exact. Rounded
# up, they run 15, 7, 3, 1, since with a stride of 1 nothing would be rounded.
FULL = (First(227, 11, 4, 0), First(224, 11, 4, 0))
NARROW = (First(31, 5, 1, 2), First(31, 4, 2, 0))
SIZES = {
    size.name: size
    for size in (
        Size("full", Fraction(1), 256, *FULL),
        Size("small", Fraction(1, 4), 36, *NARROW),
        Size("tiny", Fraction(1, 16), 36, *NARROW),
    )
}


@dataclass(frozen=True)
class Variant:
    """An architecture: maps of conv1-5, units of fc6 and fc7, columns and the layers that cross between them.

    ``without``: a convolution that is left out with its nonlinearity. What follows it stays, norm and pooling included,
    so that all other maps keep their sizes; the convolution that comes first goes over the image as conv1 does.
    ``sixth``: one more convolution over the last pooling layer (section 6, of the networks that were trained on all of
    ImageNet). The paper says no more of it; here it is like conv5, within its column.
    """

    maps: tuple[int, int, int, int, int] = (96, 256, 384, 384, 256)
    units: tuple[int, int] = (4096, 4096)
    columns: int = 2
    crossing: frozenset[str] = frozenset({"conv3", "fc6", "fc7", "fc8"})
    norm: bool = True
    padded_input: bool = False  # conv1 of 224 crops with a pad of 2
    without: str = ""
    sixth: bool = False


# Which random numbers a layer's first weights are; three names are of the network for CIFAR-10.
LAYER_NUMBERS = {name: number for number, name in enumerate(LAYERS, start=1)} | {
    **{"local3": 3, "local4": 4, "fc10": 5},
    "conv6": 9,
}
ENDS = frozenset({LAYERS[-1], "fc10"})  # the layers that give logits
DENSE = frozenset({"fc6", "fc7", "fc8"})
VARIANTS = {
    "two_column": Variant(),
    "merged": Variant(columns=1),
    "half": Variant(maps=(48, 128, 192, 192, 256), columns=1),
    "no_crossing": Variant(crossing=DENSE),
    "cross_everywhere": Variant(crossing=frozenset(LAYERS[1:])),
    "owt": Variant(maps=(64, 192, 384, 256, 256), columns=1, norm=False, padded_input=True),
    "four_column": Variant(columns=4),
    # One column with about as many parameters, or multiplications, as the paper's two: within 2.5 % at full size, and
    # 1 % at a quarter of the width.
    "merged_parameters": Variant(maps=(88, 240, 352, 352, 240), columns=1),
    "merged_products": Variant(maps=(72, 200, 304, 304, 200), columns=1),
    **{f"without_{name}": Variant(without=name) for name in LAYERS if name.startswith("conv")},
    "sixth_conv": Variant(sixth=True),
}


def variant(name: str) -> Variant:
    """Return the variant called ``name``; ``cross_at=conv2,fc6`` names two columns that cross at just those layers.

    Raises:
        ValueError: there is no such variant or layer.
    """
    if name in VARIANTS:
        return VARIANTS[name]
    if name.startswith("cross_at="):
        chosen = frozenset(filter(None, name.removeprefix("cross_at=").split(",")))
        if others := chosen - set(LAYERS[1:]):
            raise ValueError(f"columns can cross at {', '.join(LAYERS[1:])}, not at {', '.join(sorted(others))}")
        return Variant(crossing=chosen)
    raise ValueError(unknown("variant", name, [*VARIANTS, "cross_at=LAYER,LAYER"]))


def network(
    name: str,
    preset: Preset,
    size: str = "full",
    classes: int = 1000,
    *,
    activation: str = "relu",
    norm: bool = True,
    pool_window: int = 3,
    as_147: bool = False,
    dropout: bool = True,
) -> Network:
    """Build the layer table of variant ``name`` as ``preset`` reads it.

    The keyword arguments are the paper's ablations: another nonlinearity (figure 1), no response norm (section
    3.3), pooling windows of ``pool_window`` (section 3.4), no dropout (section 4.2). ``as_147``: with what the 2012 run
    without overlap changed besides (layers-147.cfg). That code rounds the sizes of pooled maps up, which tells with
    windows of 2, and the run took one from the paddings of conv2 and conv5, so that maps came down to 13 and 6 again.

    Raises:
        ValueError: the variant or the size is unknown, or columns cannot be cut evenly at this width.
    """
    plan = variant(name)
    if size not in SIZES:
        raise ValueError(unknown("size", size, SIZES))
    dims = SIZES[size]
    # The notes' reading only stops *columns* from meeting in conv3; a one-column variant has nothing to cross.
    crossing = plan.crossing if preset.crossing else plan.crossing & DENSE
    normed = norm and plan.norm
    builder = _Builder(plan, preset, dims, crossing, activation, normed, pool_window, as_147, dropout)
    return builder.build(name, classes)


class _Builder:
    """Appends layers one after the other, carrying the shape along."""

    def __init__(
        self,
        plan: Variant,
        preset: Preset,
        dims: Size,
        crossing: frozenset[str],
        activation: str,
        norm: bool,
        pool_window: int,
        as_147: bool,
        dropout: bool,
    ) -> None:
        self.plan, self.preset, self.dims, self.crossing = plan, preset, dims, crossing
        self.activation, self.norm, self.pool_window, self.dropout = activation, norm, pool_window, dropout
        self.as_147 = as_147
        # A padded input already gives 55 rows by floor; rounding up as well would give a 56th.
        self.rounds_up = preset.ceil_input and not plan.padded_input
        self.first = dims.ceil if self.rounds_up else dims.first
        if plan.padded_input and dims.name == "full":
            self.first = First(224, 11, 4, 2)
        self.shape: Shape = (3, self.first.crop, self.first.crop)
        self.layers: list[Layer] = []

    def build(self, name: str, classes: int) -> Network:
        input_shape = self.shape
        plan, first = self.plan, self.first
        less = int(self.as_147)
        kernels = ((first.kernel, first.stride, first.pad), (5, 1, 2 - less), (3, 1, 1), (3, 1, 1), (3, 1, 1 - less))
        waiting: list[tuple[str, int]] = []  # what followed the first convolution, where that is left out
        for number, (maps, own) in enumerate(zip(plan.maps, kernels, strict=True), start=1):
            steps = [(step, number) for step in self.steps_after(f"conv{number}")]
            if plan.without == f"conv{number}":
                steps.remove(("relu", number))
                if not self.layers:
                    waiting = steps
                    continue
            else:
                self.conv(f"conv{number}", self.scaled(maps), *(own if self.layers else kernels[0]))
            steps[1:1] = waiting
            waiting = []
            for step in steps:
                self.step(*step)
        if plan.sixth:
            self.conv("conv6", self.scaled(plan.maps[-1]), 3, 1, 1)
            # relu6 is fc6's.
            self.add(Activation(f"{self.activation}_conv6", self.shape, self.shape, plan.columns, self.activation))
        for number, units in zip((6, 7), plan.units, strict=True):
            self.dense(f"fc{number}", self.scaled(units))
            self.step("relu", number)
            if self.dropout:
                self.add(Dropout(f"drop{number}", self.shape, self.shape, plan.columns, self.preset.inverted_dropout))
        self.dense("fc8", classes)
        return Network(name, plan.columns, input_shape, classes, tuple(self.layers))

    def steps_after(self, name: str) -> tuple[str, ...]:
        if name in STANDARD_ORDER:
            steps = (self.preset.order or STANDARD_ORDER)[name]
            return steps if self.norm else tuple(step for step in steps if step not in ("norm", "rnorm"))
        return ("relu", "pool") if name == "conv5" else ("relu",)

    def scaled(self, maps: int) -> int:
        return int(maps * self.dims.width)

    def add(self, layer: Layer) -> None:
        if layer.shape_out[0] % layer.columns:
            raise ValueError(f"{layer.name} has {layer.shape_out[0]} maps, which {layer.columns} columns cannot share")
        self.layers.append(layer)
        self.shape = layer.shape_out

    def conv(self, name: str, maps: int, kernel: int, stride: int, pad: int) -> None:
        rows = self.shape[1]
        reach = rows + 2 * pad - kernel
        out = 1 + (ceil(reach / stride) if self.rounds_up else reach // stride)
        pad_end = max(0, (out - 1) * stride - reach)
        shape_out = (maps, out, out)
        self.add(Conv(name, self.shape, shape_out, *self.reach(name), kernel, stride, pad, pad_end))

    def dense(self, name: str, units: int) -> None:
        self.add(Dense(name, self.shape, (units, 1, 1), *self.reach(name)))

    def reach(self, name: str) -> tuple[int, bool, int]:
        """Columns, whether the layer crosses between them, and the groups it needs on one device."""
        columns = self.plan.columns
        crosses = name in self.crossing and columns > 1
        return columns, crosses, 1 if crosses or not self.layers else columns

    def step(self, kind: str, number: int) -> None:
        """Append a parameterless layer; all but pooling keep the shape."""
        maps, rows, _ = self.shape
        columns = self.plan.columns
        match kind:
            case "relu":
                name = f"{self.activation}{number}"
                self.add(Activation(name, self.shape, self.shape, columns, self.activation))
            case "norm":
                self.add(Norm(f"norm{number}", self.shape, self.shape, columns, self.preset.norm))
            case "rnorm":
                self.add(SpatialNorm(f"rnorm{number}", self.shape, self.shape, columns))
            case "pool":
                beyond = rows - self.pool_window
                out = 1 + (ceil(beyond / 2) if self.as_147 else beyond // 2)
                self.add(Pool(f"pool{number}", self.shape, (maps, out, out), columns, self.pool_window))
