"""Training: what every stage needs to train a network, and to go on where it was stopped.

A stage opens its `run`, whose `directory` is kept from other runs, and reads what earlier stages
handed over (`upstream`, `checkpoints`). It gives its networks, a step and a validation to `loop`,
which writes the `state` after each epoch. `device` and `distributed` are where networks compute.
"""
