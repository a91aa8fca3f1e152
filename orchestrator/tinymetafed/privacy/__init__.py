"""What an update tells of the samples that it was learnt from: measured by an attack."""

from ..errors import TinyMetaFedError

try:
    import autograd  # noqa: F401 (all of the package needs it)
except ImportError as missing:
    raise TinyMetaFedError(
        f"the attack needs the extra privacy ({missing.name} is not installed): pip install "
        "'tinymetafed[privacy]'"
    ) from None
