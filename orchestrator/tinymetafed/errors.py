"""What can go wrong in a way that a user can do something about."""


class TinyMetaFedError(Exception):
    """One line for the user: what, where, what to do. The command line prints it and exits 1."""


class FirmwareFault(TinyMetaFedError):
    """What ended the work is the firmware's own fault. The command line exits 3."""
