"""FedPer: Arivazhagan, Aggarwal, Singh, Choudhary 2019, arXiv:1912.00818, algorithms 1 and 2.

Base layers are shared and averaged as in FedAvg; personalisation layers, those that are marked
local, learn along with them and never leave the node. A node plays another device in each round, so
that these layers begin at the shared initialisation each time; in the paper a client keeps its own.
"""

from typing import Literal

from .fedavg import WeightedAveraging


class FedPer(WeightedAveraging):
    """FedPer: FedAvg of the shared layers; the local ones learn along, and stay on the node."""

    name: Literal["fedper"]

    @property
    def uses_local(self) -> bool:
        """See Strategy."""
        return True
