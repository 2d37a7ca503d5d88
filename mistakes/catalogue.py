"""The planted mistakes: what each is, and where the ladder must name it.

How one is planted is in :mod:`mistakes.shared` where what both backends obey is at fault, and in
:mod:`mistakes.gluon` and :mod:`mistakes.deepspeed` where the network is.
"""

from dataclasses import dataclass

CRASH = "run"  # the rung of a run that could not be carried out at all
CRASH_NOTE = "crash.txt"


@dataclass(frozen=True)
class Mistake:
    """``named``: where the ladder's first divergence may lie, as ``rung: start of the quantity``.

    ``split``: planted in the backend's placement on two devices, because on one there is nothing to get wrong;
    ``placement``: in another. ``fools_oracle``: the oracle makes the mistake too. ``resumes``: planted when a run that
    was stopped goes on. ``compiled``: the norm and the pooling are the compiled operators. ``in_float32``: float64
    shows nothing of it. ``plant``: what is planted, where the name says more. ``dial``: it is one of
    :mod:`mistakes.dials`, and may be named anywhere.
    """

    name: str
    named: tuple[str, ...]
    split: bool = False
    preset: str = "paper"
    case: str = "ladder"
    placement: str = ""
    fools_oracle: bool = False
    resumes: bool = False
    compiled: bool = False
    in_float32: bool = False
    plant: str = ""
    dial: str = ""


def _all(rung: str, names: str, **settings: object) -> list[Mistake]:
    """Mistakes that are all named on one rung: ``name > quantity | quantity``, one a line."""
    found = []
    for line in filter(None, map(str.strip, names.strip().splitlines())):
        name, _, quantities = line.partition(">")
        named = tuple(f"{rung}: {quantity}".strip() for quantity in map(str.strip, quantities.split("|")))
        found.append(Mistake(name.strip(), named, **settings))  # type: ignore[arg-type]
    return found


MISTAKES: dict[str, Mistake] = {
    mistake.name: mistake
    for mistake in (
        *_all(
            "start",
            """
            conv3 starts at twice its deviation    > start.conv3.weight
            all biases start at 0                  > start.conv2.bias
            all biases start at 1                  > start.conv1.bias
            the columns' weights are exchanged     > start.conv1.weight
            """,
        ),
        *_all(
            "data",
            """
            crops start one row late               > images.0
            the last crop position is never used   > images.
            one crop for the whole batch           > images.0
            blue, green, red                       > images.0
            a mean for each channel                > images.0
            the mean image of other photographs    > images.0
            images from 0 to 1                     > images.0
            no reflections                         > images.0
            reflected top to bottom                > images.0
            the shift uses the variance            > images.0
            the first epoch's draws in every epoch > images.1
            labels one micro-batch late            > labels.0
            labels one image late                  > labels.0
            """,
        ),
        *_all(
            "forward",
            """
            alpha 5 times too large                > forward.norm1
            alpha 5 times too small                > forward.norm1
            k is 1                                 > forward.norm1
            beta is a half                         > forward.norm1
            a window of 4 maps                     > forward.norm1
            a window of 3 maps                     > forward.norm1
            the norm spans both columns            > forward.norm1
            no norm after conv1                    > forward.norm1
            the norm before ReLU                   > forward.relu1
            the norm after pooling                 > forward.norm1
            conv2 reads both columns               > forward.conv2
            columns exchanged at conv3             > forward.conv3
            conv3 reads its own column             > forward.conv3
            fc6 reads its own column               > forward.fc6
            conv4 padded on one side               > forward.conv4
            conv5's kernels turned about           > forward.conv5
            fc6 reads rows, columns, maps          > forward.fc6
            average pooling                        > forward.pool1
            tanh after conv3                       > forward.relu3
            a leaky ReLU after conv3               > forward.relu3
            no ReLU after fc7                      > forward.relu7
            no dropout after fc6                   > forward.drop6
            half of the kept are dropped too       > forward.drop6
            dropout doubles what it keeps          > forward.drop6
            one mask for all samples               > forward.drop6
            fc6 and fc7 exchange masks             > forward.drop6
            masks one micro-batch late             > forward.drop6
            evaluation counts as a step of dropout > forward.drop6
            float32 passed off as float64          > forward.conv2
            """,
        ),
        *_all(
            "forward",
            """
            bfloat16 passed off as float32         > forward.conv1
            TF32 passed off as float32             > forward.conv1
            """,
            in_float32=True,
        ),
        *_all(
            "loss",
            """
            softmax applied twice                  > loss.0
            labels smoothed                        > loss.0
            """,
        ),
        *_all(
            "gradients",
            """
            a crossing's gradient halved           > gradient.conv2
            a crossing's gradient doubled          > gradient.conv2
            the last micro-batch is forgotten      > gradient.fc8
            no gradient through norm2              > gradient.conv2
            """,
        ),
        *_all(
            "update",
            """
            biases do not decay                    > step.conv2.bias
            nothing decays                         > step.conv1
            ten times the decay                    > step.conv1
            biases at twice the rate               > step.conv1.bias
            Nesterov's momentum                    > step.conv1
            fc7 is updated twice                   > step.fc7.weight
            conv1 is frozen                        > step.conv1
            the loss is summed                     > step.conv1
            one mask for all steps                 > loss.1
            momentum .99                           > loss.2
            the rate outside the velocity          > loss.4 | weight.conv1
            the rate never falls                   > loss.4
            the rate is halved instead             > loss.4
            the rate falls a step late             > loss.4
            """,
        ),
        # One backend's gradients are observed before they are clipped, the other's after.
        *_all(
            "figures",
            """
            the share that is right is reported    > report.error.0
            """,
        ),
        *(
            Mistake(name, ("gradients: gradient.", "update: step.", "forward: forward."), placement="replicas")
            for name in ("biases are averaged twice", "each replica keeps its own gradients")
        ),
        *(
            Mistake(name, ("resume: loss.",), resumes=True)
            for name in (
                "momentum is not restored",
                "masks begin anew after a resume",
                "the rate falls late after a resume",
            )
        ),
        *(
            Mistake(f"compiled: {name}", ("forward: forward.norm1",), compiled=True, plant=name)
            for name in ("alpha 5 times too large", "k is 1", "a window of 3 maps", "the norm spans both columns")
        ),
        *_all(
            "draws",
            """
            all layers from one stream             > draws.
            weights drawn evenly                   > draws.conv4.shape
            both columns start alike               > draws.
            weights a little off zero              > draws.fc6.mean
            fc7's mask is fc6's                    > draws.drop7.layers
            a mask for every second unit           > draws.drop
            one order for every epoch              > draws.order.epochs
            a crop's column is its row             > draws.
            red follows the reflection             > draws.
            samples come class by class            > draws.order.
            colours are shifted upwards            > draws.
            """,
            fools_oracle=True,
        ),
        *_all("update", "the rate a step late everywhere > loss.4", fools_oracle=True),
        *_all(
            "figures",
            """
            the share that is right is counted at test > report.top1.1
            the first six count as five                > report.top5.1
            """,
            fools_oracle=True,
        ),
        Mistake("gradients clipped to norm 1", ("gradients: gradient.fc8", "update: step.conv1")),
        *_all("update", "the second device never updates > step.", split=True),
        *_all(
            "update",
            """
            biases decay                           > step.conv2.bias
            biases at the weights' rate            > step.conv1.bias
            """,
            preset="chm-145",
        ),
        *_all(
            "test",
            """
            nothing is halved at test              > test.start
            dropout at test                        > test.start
            ten views average logits               > test.10
            ten views are the centre's             > test.10
            the centre view is a corner            > test.1
            the last batch is dropped              > test.1
            predictions one image late             > test.1
            the mean is not taken off at test      > test.1
            """,
        ),
        *_all(CRASH, "pooling rounds up > ", case="ladder-no-overlap"),
        *_all("forward", "conv1 padded by 2 > forward.conv1"),
        *_all("forward", "conv1 padded at its other end > forward.conv1", preset="chm-145"),
        *_all(CRASH, "twice the units in fc6 > "),
    )
}

# Those that can be made as small as one likes.
DIALS: dict[str, Mistake] = {
    name: Mistake(name, (), dial=name)
    for name in (
        *(f"what {layer} puts out" for layer in ("conv1", "conv4", "fc7", "relu3", "pool1", "pool5")),
        *(f"the gradient into {layer}" for layer in ("conv3", "fc6", "norm2")),
        "the other column in conv2",
        "what leaks through relu3",
        "the norm's alpha",
        "the norm's k",
        "the norm's beta",
        "the loss",
        "smoothing of labels",
        "dropout's scale in training",
        "dropout's scale at test",
        "momentum",
        "weight decay",
        "the biases' rate",
        "the rate",
        "the rate once it has fallen",
        "the probabilities' temperature",
        "the weight of one of ten views",
    )
}
