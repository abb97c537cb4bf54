"""Checkpoints that are whole or not there: how they are written, and which one a run goes on from.

mmengine writes a checkpoint under its final name, removes an older one before (``max_keep_ckpts``), and names the new
one in ``last_checkpoint``. A run that is killed in between leaves half a file, or with ``max_keep_ckpts=1`` none at
all, or an empty ``last_checkpoint``; a full disk likewise.
"""

import logging
import zipfile
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend
from mmengine.logging import print_log
from mmengine.runner import find_latest_checkpoint

from mmplugins.files import NotWrittenError, write_whole

NAME = 'mmplugins_whole'  # of the file backend
PATTERNS = ('iter_*.pth', 'epoch_*.pth')
GO_ON = 'The checkpoints before it are whole: make room, or make the folder writable, and go on with --resume'


@register_backend(NAME, force=True)
class WholeFileBackend(LocalBackend):
    """Writes a file beside its place, then moves it there; what is to be removed goes when the next file is there."""

    _doomed: list[Path] = []  # of all instances: mmengine makes one for each file

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Writes bytes to a path, which until then holds what it held.

        Raises:
            NotWrittenError: The disk is full, or the folder cannot be written; it says what is left, too.
        """
        path = Path(filepath)
        try:
            write_whole(obj, path)
        except NotWrittenError as error:
            raise NotWrittenError(error.errno, f'{error.strerror}. {GO_ON}') from error
        for old in self._doomed:
            if old != path:
                _remove(old)
        self._doomed.clear()

    def remove(self, filepath: str | Path) -> None:
        """Removes a file as soon as the next one is written."""
        self._doomed.append(Path(filepath))


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        print_log(f'{path} cannot be removed ({error.strerror})', 'current', logging.WARNING)


def why_not_whole(path: str | Path) -> str | None:
    """Returns why a file is no checkpoint that was written to its end; None if it is.

    PyTorch writes ZIP archives, whose parts have checksums. All of the file is read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            wrong = archive.testzip()
    except FileNotFoundError:
        return 'it is not there'
    except (OSError, zipfile.BadZipFile, EOFError) as error:
        return f'{type(error).__name__}: {error}, {Path(path).stat().st_size:,} bytes'
    return None if wrong is None else f'its part {wrong} is damaged'


def latest_whole(work_dir: str | Path) -> str | None:
    """Returns the checkpoint that a run goes on from: the one that ``last_checkpoint`` names, if it is whole.

    Else, as after a run that was killed while it wrote, the newest whole ``iter_*.pth`` or ``epoch_*.pth``; the log
    says so. None if there is none. Where ``last_checkpoint`` names a file of a folder that was moved, that of its name
    is taken.

    Raises:
        FileNotFoundError: ``last_checkpoint`` names one, and neither it nor another one is whole.
    """
    folder = Path(work_dir)
    named = find_latest_checkpoint(str(folder))  # logs where there is no last_checkpoint
    found = [path for pattern in PATTERNS for path in folder.glob(pattern)]
    found.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    if named and not Path(named).is_file():
        found.insert(0, folder / Path(named).name)
    elif named:
        found.insert(0, Path(named))
    if named == '':
        print_log(f'--resume: {folder / "last_checkpoint"} is empty; the run was cut off.', 'current', logging.WARNING)
    for index, path in enumerate(found):
        problem = why_not_whole(path)
        if problem is None:
            if index or not named:
                print_log(f'--resume: going on from {path}, the newest whole one.', 'current', logging.WARNING)
            return str(path)
        if path not in found[:index]:
            print_log(f'--resume: {path} is no whole checkpoint: {problem}.', 'current', logging.WARNING)
    if named:
        raise FileNotFoundError(
            f'there is no checkpoint {found[0]} that is whole ({why_not_whole(found[0])}), nor another one in '
            f'{folder}; to train from the beginning, choose another work dir or remove last_checkpoint'
        )
    return None
