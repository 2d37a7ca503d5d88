"""Training that begins with a model, and what a model makes of images."""

from tests.support.commands import DEEPSPEED
from tests.support.finetuning import StartTests


class TestStart(StartTests):
    backend = DEEPSPEED
