"""How a network lies on devices: grids, cuts, devices. No framework, no experiment."""
