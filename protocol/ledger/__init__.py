"""Every byte of a training step: what each framework holds when, predicted from the layer table alone."""
