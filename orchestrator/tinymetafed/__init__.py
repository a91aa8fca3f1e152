"""A bench for federated meta-learning on emulated microcontrollers."""
