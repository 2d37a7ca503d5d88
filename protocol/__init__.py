"""How the paper is tested: the experiment that both backends obey. Needs no framework."""
