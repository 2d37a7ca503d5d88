"""The committed reference, and README's figures that follow from it: the only wing that reads the others'."""
