"""A program as process number 1, as in a container."""

import subprocess
from functools import cache

FIRST = ("unshare", "-Urpf", "--mount-proc")
"""What to put before its command."""


@cache
def there() -> bool:
    """Whether this machine lets us do it."""
    try:
        return subprocess.run([*FIRST, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def with_small_disk(folder: str, size: str) -> list[str]:
    """What to put before a command that is to find no more room than that in the folder."""
    mount = 'mount -t tmpfs -o "size=$1" none "$0" && shift && exec "$@"'
    return ["unshare", "-Urm", "sh", "-c", mount, folder, size]
