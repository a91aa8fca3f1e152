"""Models: layers and the description that a node gets of them."""
