"""What can go wrong in a way that a user can do something about."""


class TinyMetaFedError(Exception):
    """One line for the user: what, where, what to do. The command line prints it and exits 1."""


class Diverged(TinyMetaFedError):
    """What ended a run is that its settings lead to numbers that are not finite."""


class FirmwareFault(TinyMetaFedError):
    """What ended the work is the firmware's own fault. The command line exits 3."""


def without_extra(what: str, extra: str, error: ImportError) -> TinyMetaFedError:
    """What to say where a package is not installed that only some users need."""
    return TinyMetaFedError(
        f"{what} needs the extra {extra} ({error.name} is not installed): "
        f"pip install 'tinymetafed[{extra}]'"
    )


MOST_SAID = 200
"""Characters of a text that somebody else wrote, in a message."""


def printable(text: str) -> str:
    """A text that somebody else wrote, as part of a line: what a terminal would act on is escaped,
    and what is too long is cut."""
    return visible(text if len(text) <= MOST_SAID else text[:MOST_SAID] + "…")


def visible(text: str) -> str:
    """A line with what a terminal would act on escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
