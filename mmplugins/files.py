"""Files that are whole or not there."""

import contextlib
import errno
import os
import shutil
from pathlib import Path

MEGABYTE = 2**20


class NotWrittenError(OSError):
    """A file could not be written; ``strerror`` names it, its size and the reason."""


def write_whole(data: bytes, path: Path) -> None:
    """Writes a checkpoint beside its place, waits until it is on the disk, and moves it there.

    A link is followed, a file that was there gives its mode, and what is no file, such as ``/dev/null`` or a pipe, is
    written to as it is. A file that may not be written stays. One process at a time writes to a path.

    Args:
        data: Content of the file.
        path: Its place; folders are made.

    Raises:
        NotWrittenError: The disk is full, or the file or its folder cannot be written. What was there is there still.
    """
    place = Path(os.path.realpath(path))
    beside = place.with_name(f'.{place.name}.part')  # left by a kill, the resumed run writes over it
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(data)
            return
        if place.exists() and not os.access(place, os.W_OK):  # else it would be replaced, which its folder allows
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        place.parent.mkdir(parents=True, exist_ok=True)
        with beside.open('wb') as file:
            if place.exists():
                shutil.copymode(place, beside)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(place)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise NotWrittenError(
            error.errno,
            f'the checkpoint {path} of {len(data) / MEGABYTE:.1f} MB cannot be written ({error.strerror})',
        ) from error
