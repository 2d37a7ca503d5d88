"""Weights in and out: what comes in are other people's files, what leaves are safetensors with a card, and ONNX."""
