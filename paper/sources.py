"""Where each fact of a preset stands: by preset and field of :class:`paper.recipe.Preset`.

*section* is of the paper; files are of computerhistory/AlexNet-Source-Code (``chm-145``) and of BVLC/caffe at
commit 0d2354c (``caffe``), with the key or line that says it. ``DEVIATIONS.md`` has what was decided where they are
silent.
"""

_PAPER = {
    "deviation": "section 5",
    "ones": "section 5: the second, fourth, fifth convolutional and the fully-connected hidden layers",
    "bias_start": "section 5",
    "bias_rate": "section 5: an equal rate for all layers",
    "bias_decay": "section 5: one update rule; D8",
    "rate": "section 5",
    "momentum": "section 5",
    "decay": "section 5",
    "undecayed": "section 5: one update rule",
    "norm": "section 3.3; the window as in D21",
    "data": "section 2; section 4.1",
    "order": "section 3.3; section 3.5",
    "inverted_dropout": "section 4.2: outputs times .5 at test",
    "ceil_input": "section 3.5 states 224 pixels and 55 rows, and no rounding; D1",
    "crossing": "section 3.2; section 3.5: the third layer reads all kernel maps of the second",
}
_ALEXNET = "models/bvlc_alexnet/train_val.prototxt"
_SOLVER = "models/bvlc_alexnet/solver.prototxt"
_CAFFENET = "models/bvlc_reference_caffenet"

SOURCES: dict[str, dict[str, str]] = {
    "paper": _PAPER,
    "chm-145": {
        "deviation": "layers/layers-145.cfg: initW",
        "ones": "layers/layers-145.cfg: initB",
        "bias_start": "layers/layers-145.cfg: initB",
        "bias_rate": "layers/layer-params-145.cfg: epsB .02, at the start twice epsW (comments), and not divided",
        "bias_decay": "layers/layer-params-*.cfg: wc, which weights alone have",
        "rate": "layers/layer-params-145.cfg, comments: epsW .01 at the start",
        "momentum": "layers/layer-params-*.cfg: momW, momB",
        "decay": "layers/layer-params-*.cfg: wc",
        "undecayed": "layers/layer-params-*.cfg: wc, the same in every layer",
        "norm": "layers/layers-145.cfg: type cmrnorm, size, scale, pow; layer.py divides scale by size, and reads "
        "minDiv for cmrnorm alone",
        "data": "convdata.py lines 137 and 225 (mean), 205 (divisor)",
        "order": "layers/layers-145.cfg: inputs of each layer",
        "inverted_dropout": "layers/layers-145.cfg: dropout, halved at test",
        "ceil_input": "layers/layers-145.cfg: conv1 of 224; 1 + ceil((2p + i - k) / s)",
        "crossing": "layers/layers-145.cfg: inputs of conv3",
    },
    "caffe": {
        "deviation": f"{_ALEXNET}: std of each layer's weight_filler",
        "ones": f"{_ALEXNET}: bias_filler of conv2, conv4, conv5, fc6, fc7",
        "bias_start": f"{_ALEXNET}: value .1 of those bias_fillers",
        "bias_rate": f"{_ALEXNET}: lr_mult 2 of every second param",
        "bias_decay": f"{_ALEXNET}: decay_mult 0 of every second param",
        "rate": f"{_SOLVER} line 4",
        "momentum": f"{_SOLVER} line 10",
        "decay": f"{_SOLVER} line 11",
        "undecayed": f"{_ALEXNET}: decay_mult 1 of every first param",
        "norm": f"{_ALEXNET}: lrn_param of norm1 and norm2; src/caffe/proto/caffe.proto: k is 1 by default; "
        "src/caffe/layers/lrn_layer.cpp: alpha_over_size",
        "data": f"{_ALEXNET}: mean_file; src/caffe/data_transformer.cpp takes off the part that the crop was cut from",
        "order": f"{_ALEXNET}: bottom of relu1, norm1, pool1, relu2, norm2, pool2",
        "inverted_dropout": "src/caffe/layers/dropout_layer.cpp: scale_",
        "ceil_input": f"{_ALEXNET}: crop_size 227",
        "crossing": f"{_ALEXNET}: conv3 and the inner products have no group",
    },
    "caffenet": {
        "deviation": f"{_CAFFENET}/train_val.prototxt: std of each layer's weight_filler",
        "ones": f"{_CAFFENET}/train_val.prototxt: bias_filler of conv2, conv4, conv5, fc6, fc7",
        "bias_start": f"{_CAFFENET}/train_val.prototxt: value 1 of those bias_fillers",
        "bias_rate": f"{_CAFFENET}/train_val.prototxt: lr_mult 2 of every second param",
        "bias_decay": f"{_CAFFENET}/train_val.prototxt: decay_mult 0 of every second param",
        "rate": f"{_CAFFENET}/solver.prototxt: base_lr",
        "momentum": f"{_CAFFENET}/solver.prototxt: momentum",
        "decay": f"{_CAFFENET}/solver.prototxt: weight_decay",
        "undecayed": f"{_CAFFENET}/train_val.prototxt: decay_mult 1 of every first param",
        "norm": f"{_CAFFENET}/train_val.prototxt: lrn_param of norm1 and norm2; src/caffe/proto/caffe.proto: k is 1 by "
        "default; src/caffe/layers/lrn_layer.cpp: alpha_over_size",
        "data": f"{_CAFFENET}/train_val.prototxt: mean_file; src/caffe/data_transformer.cpp takes off the part that "
        "the crop was cut from",
        "order": f"{_CAFFENET}/train_val.prototxt: bottom of relu1, pool1, norm1, relu2, pool2, norm2; the readme says "
        "that pooling comes before the norm",
        "inverted_dropout": "src/caffe/layers/dropout_layer.cpp: scale_",
        "ceil_input": f"{_CAFFENET}/train_val.prototxt: crop_size 227",
        "crossing": f"{_CAFFENET}/train_val.prototxt: conv3 and the inner products have no group",
    },
    # What they do not say is the paper's.
    "notes": {
        **_PAPER,
        "ones": "the study notes, on initial biases: layers 1, 3, 4 and the fully-connected ones",
        "crossing": "the study notes, table of layers: depths 48, 128, 192 and 192",
    },
    # Of akrizhevsky's cuda-convnet, example-layers/.
    "conv-local": {
        "deviation": "layers-conv-local-11pct.cfg: initW",
        "ones": "layers-conv-local-11pct.cfg: no initB",
        "bias_start": "layers-conv-local-11pct.cfg: no initB",
        "bias_rate": "layer-params-conv-local-11pct.cfg: epsB .002, twice epsW",
        "bias_decay": "layer-params-conv-local-11pct.cfg: wc, which weights alone have",
        "rate": "layer-params-conv-local-11pct.cfg: epsW .001",
        "momentum": "layer-params-conv-local-11pct.cfg: momW, momB",
        "decay": "layer-params-conv-local-11pct.cfg: wc .004 of local3, local4 and fc10",
        "undecayed": "layer-params-conv-local-11pct.cfg: wc 0 of conv1 and conv2",
        "norm": "layers-conv-local-11pct.cfg: size, scale, pow of rnorm1 and rnorm2; layer.py divides scale by "
        "size; k is 1",
        "data": "convdata.py, CroppedCIFARDataProvider: the middle of the mean image is taken off every crop",
        "order": "layers-conv-local-11pct.cfg: inputs of each layer",
        "inverted_dropout": "layers-conv-local-11pct.cfg: no dropout",
        "ceil_input": "layers-conv-local-11pct.cfg: conv1 keeps its 24 rows, so nothing is rounded",
        "crossing": "layers-conv-local-11pct.cfg: one column",
    },
}
