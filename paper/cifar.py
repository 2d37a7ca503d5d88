"""The four-layer network that the paper tries on CIFAR-10 (figure 1, section 3.3), as the released code has it.

    image 24 x 24   conv1 - pool1 - conv2 - pool2 - local3 - local4 - fc10

The paper describes it by four layers and "the code and parameter files provided here": ``layers-conv-local-13pct.cfg``
and, with response norms, ``layers-conv-local-11pct.cfg`` of cuda-convnet. Their hidden layers are four, the last two
convolutions whose weights are not shared between places. Pooling rounds up: the last windows reach beyond the map.
"""

from math import ceil

from paper.architecture import Activation, Conv, Dense, Layer, Local, Network, Norm, Pool, Shape
from paper.recipe import DataReading, NormScale, Preset

VARIANT = "conv_local"
SIZE = "cifar"
CROP = 24  # of images of 32 x 32
CONVOLUTIONS = (("conv1", 64), ("conv2", 64))
LOCALS = (("local3", 32), ("local4", 32))

RECIPE = Preset(
    "conv-local",
    "cuda-convnet, layers- and layer-params-conv-local-11pct.cfg",
    {"conv1": 0.0001, "conv2": 0.01, "local3": 0.04, "local4": 0.04, "fc10": 0.01},
    ones=frozenset(),
    bias_rate=2.0,
    bias_decay=False,
    rate=0.001,
    decay=0.004,
    undecayed=frozenset({"conv1", "conv2"}),
    norm=NormScale(alpha=0.001, k=1.0, divided=True),
    data=DataReading(centre_mean=True),
)


def conv_local(classes: int = 10, *, activation: str = "relu", norm: bool = True) -> Network:
    """The layer table; without ``norm`` it is the net of 13 % test error, with it that of 11 %."""
    layers: list[Layer] = []
    shape: Shape = (3, CROP, CROP)

    def nonlinear(number: int) -> None:
        layers.append(Activation(f"{activation}{number}", shape, shape, 1, activation))

    for number, (name, maps) in enumerate(CONVOLUTIONS, start=1):
        above, shape = shape, (maps, *shape[1:])
        layers.append(Conv(name, above, shape, 1, kernel=5, pad=2))
        nonlinear(number)
        if norm:
            layers.append(Norm(f"norm{number}", shape, shape, 1, RECIPE.norm))
        rows = 1 + ceil((shape[1] - 3) / 2)
        above, shape = shape, (maps, rows, rows)
        layers.append(Pool(f"pool{number}", above, shape, 1))
    for number, (name, maps) in enumerate(LOCALS, start=3):
        above, shape = shape, (maps, *shape[1:])
        layers.append(Local(name, above, shape, 1, kernel=3, pad=1))
        nonlinear(number)
    layers.append(Dense("fc10", shape, (classes, 1, 1), 1))
    return Network(VARIANT, 1, (3, CROP, CROP), classes, tuple(layers))
