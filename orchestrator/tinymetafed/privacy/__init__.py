"""What an update tells of the samples that it was learnt from: measured by an attack."""

from ..errors import without_extra

try:
    import autograd  # noqa: F401 (all of the package needs it)
except ImportError as missing:
    raise without_extra("the attack", "privacy", missing) from None
