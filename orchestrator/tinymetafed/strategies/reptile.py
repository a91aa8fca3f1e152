"""Reptile, batched: Nichol, Achiam, Schulman 2018, arXiv:1803.02999, algorithm 2.

The node stores its samples and does several epochs of mini-batch SGD on them; all weights are
exchanged both ways.
"""

from typing import Literal

from .base import Annealing, MiniBatchSGD


class Reptile(MiniBatchSGD, Annealing):
    """Reptile, batched: mini-batches on the nodes; the server moves towards their mean."""

    name: Literal["reptile"]
