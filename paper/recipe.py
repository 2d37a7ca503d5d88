"""How the network is trained: the paper's text, the 2012 code, and two later readings, side by side.

The paper (section 5) gives one recipe; the code that produced its figures follows another in several places.
A :class:`Preset` is one reading. Everything in it is a fact about the experiment, none of it about a framework.
"""

from dataclasses import dataclass

from paper.names import unknown

LOCAL = "column"
ALL_MAPS = "all"


@dataclass(frozen=True)
class NormScale:
    """Constants of the response norm ``b = a / (k + alpha * sum(a^2))^beta`` over ``size`` adjacent maps.

    ``alpha`` multiplies the plain sum (paper, section 3.3). The 2012 code, and every framework but TensorFlow,
    divides it by ``size`` first; ``divided`` records that reading, and :attr:`sum_scale` is what reaches the sum.
    """

    size: int = 5
    alpha: float = 1e-4
    beta: float = 0.75
    k: float = 2.0
    divided: bool = False
    window: str = LOCAL  # maps the window may reach: the column's own, or all of the layer's

    @property
    def sum_scale(self) -> float:
        return self.alpha / self.size if self.divided else self.alpha


@dataclass(frozen=True)
class DataReading:
    """How images reach the network, where texts part (section 2, section 4.1).

    ``centre_mean``: every crop, reflected or not, has the *centre* crop of the mean image taken off, and not the part
    of the mean image that it was cut from. ``divisor``: of training images while their colours are shifted, which keeps
    their scale that of test images.
    """

    centre_mean: bool = False
    divisor: float = 1.0


LIKE = {"conv6": "conv5"}  # the layer whose start one has that no recipe names


@dataclass(frozen=True)
class Preset:
    """One interpretation of the recipe.

    ``deviation``: standard deviation of each layer's initial Gaussian weights. ``ones``: layers whose biases
    start at ``bias_start`` (others at 0). ``bias_rate``: learning rate of biases relative to weights.
    ``rate``: the learning rate a full-size run starts with. ``order``: what follows conv1 and conv2.
    """

    name: str
    source: str
    deviation: dict[str, float]
    ones: frozenset[str] = frozenset({"conv2", "conv4", "conv5", "fc6", "fc7"})
    bias_start: float = 1.0
    bias_rate: float = 1.0
    bias_decay: bool = True
    rate: float = 0.01
    momentum: float = 0.9
    decay: float = 0.0005
    undecayed: frozenset[str] = frozenset()  # layers whose weights do not decay
    norm: NormScale = NormScale()
    data: DataReading = DataReading()
    order: dict[str, tuple[str, ...]] | None = None
    inverted_dropout: bool = False
    ceil_input: bool = False  # 224 crops and conv1 sized by 1 + ceil((i - k) / s), as cuda-convnet did
    crossing: bool = True  # False: no layer but the fully-connected ones reads the other column

    def deviation_of(self, layer: str) -> float:
        """The standard deviation of a layer's first weights, at full size."""
        return self.deviation[LIKE.get(layer, layer)]

    def bias_of(self, layer: str) -> float:
        """What a layer's biases start at."""
        return self.bias_start if LIKE.get(layer, layer) in self.ones else 0.0

    def decay_of(self, name: str) -> float:
        """The decay of a parameter by its canonical name."""
        layer, _, kind = name.partition(".")
        return 0.0 if layer in self.undecayed or (kind == "bias" and not self.bias_decay) else self.decay


LAYERS = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")
STANDARD_ORDER = {"conv1": ("relu", "norm", "pool"), "conv2": ("relu", "norm", "pool")}


def _deviation(first: float, middle: float, dense: float, last: float) -> dict[str, float]:
    return dict(zip(LAYERS, (first, first, middle, middle, middle, dense, dense, last), strict=True))


PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset("paper", "the text of the paper", _deviation(0.01, 0.01, 0.01, 0.01)),
        Preset(
            "chm-145",
            "the 2012 source, layers-145.cfg",
            _deviation(0.01, 0.03, 0.01, 0.01),
            bias_rate=2.0,
            bias_decay=False,
            norm=NormScale(divided=True),
            data=DataReading(centre_mean=True, divisor=1.1),
            order={"conv1": ("norm", "pool", "relu"), "conv2": ("relu", "norm", "rnorm", "pool")},
            ceil_input=True,
        ),
        Preset(
            "caffe",
            "BVLC's bvlc_alexnet",
            _deviation(0.01, 0.01, 0.005, 0.01),
            bias_start=0.1,
            bias_rate=2.0,
            bias_decay=False,
            norm=NormScale(divided=True, k=1.0, window=ALL_MAPS),
            inverted_dropout=True,
        ),
        Preset(
            "caffenet",
            "BVLC's bvlc_reference_caffenet",
            _deviation(0.01, 0.01, 0.005, 0.01),
            bias_rate=2.0,
            bias_decay=False,
            norm=NormScale(divided=True, k=1.0, window=ALL_MAPS),
            order={"conv1": ("relu", "pool", "norm"), "conv2": ("relu", "pool", "norm")},
            inverted_dropout=True,
        ),
        Preset(
            "notes",
            "the study notes this project began from",
            _deviation(0.01, 0.01, 0.01, 0.01),
            ones=frozenset({"conv1", "conv3", "conv4", "fc6", "fc7"}),
            crossing=False,
        ),
    )
}


def preset(name: str) -> Preset:
    """Return the preset called ``name``.

    Raises:
        ValueError: there is none; the message names those there are.
    """
    if name not in PRESETS:
        raise ValueError(unknown("preset", name, PRESETS))
    return PRESETS[name]
