"""The entry point of `tinymetafed` and of `python -m tinymetafed`. It imports nothing before it is
ready to be interrupted, because the rest takes about a second to import."""

import signal

from .signals import INTERRUPTED, end_at_once_on_ending, interrupt_on_ending, serve_as_first_process


def main() -> None:
    """Runs the command that the process's arguments name; see cli.main."""
    serve_as_first_process()
    end_at_once_on_ending()
    from . import cli

    interrupt_on_ending()
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        cli.main()
    except KeyboardInterrupt:  # once more, while it was putting things in order
        raise SystemExit(INTERRUPTED) from None


if __name__ == "__main__":
    main()
