"""MXNet with its own layers, grouped, hybridized, on one context: python peers/mxnet_stock.py BATCH STEPS"""

import json
import os
import sys
import time

import mxnet as mx
from mxnet import autograd, gluon
from mxnet.gluon import nn

WARM_UP, BATCH, STEPS = 3, *map(int, sys.argv[1:])

net = nn.HybridSequential()
for maps, kernel, stride, pad, groups, normed, pooled in (
    *((96, 11, 4, 0, 1, True, True), (256, 5, 1, 2, 2, True, True), (384, 3, 1, 1, 1, False, False)),
    *((384, 3, 1, 1, 2, False, False), (256, 3, 1, 1, 2, False, True)),
):
    net.add(nn.Conv2D(maps, kernel, stride, pad, groups=groups, activation="relu"))
    if normed:  # over both columns: MXNet's knows no groups
        net.add(nn.HybridLambda(lambda F, x: F.LRN(x, nsize=5, alpha=5e-4, beta=0.75, knorm=2)))
    if pooled:
        net.add(nn.MaxPool2D(3, 2))
net.add(nn.Dense(4096, "relu"), nn.Dropout(0.5), nn.Dense(4096, "relu"), nn.Dropout(0.5), nn.Dense(1000))
net.hybridize(static_alloc=True, static_shape=True)
net.initialize()
trainer = gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.01, "momentum": 0.9, "wd": 5e-4})
images, labels = mx.nd.random.normal(shape=(BATCH, 3, 227, 227)), mx.nd.zeros(BATCH)
loss_of, seconds = gluon.loss.SoftmaxCrossEntropyLoss(), []
for _ in range(WARM_UP + STEPS):
    started = time.perf_counter()
    with autograd.record():
        loss = loss_of(net(images), labels)
    loss.backward()
    trainer.step(BATCH)
    mx.nd.waitall()
    seconds.append(time.perf_counter() - started)
print(json.dumps({"threads": int(os.environ["OMP_NUM_THREADS"]), "seconds": seconds[WARM_UP:]}))
