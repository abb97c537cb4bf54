"""Writes the report of a run: ``python -m mmplugins.report WORK_DIR``."""

import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from mmplugins.report.page import page
from mmplugins.report.work_dir import read_run


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the tool with a command line; None: the program's own."""
    parser = ArgumentParser(prog='python -m mmplugins.report', description='Write a run as one HTML file.')
    parser.add_argument('work_dir', type=Path, metavar='WORK_DIR', help='--work-dir of the training')
    parser.add_argument('--out', type=Path, help='file to write (default: WORK_DIR/report.html)')
    parser.add_argument('--pictures', type=int, default=6, help='most pictures of one kind (default: 6)')
    args = parser.parse_args(argv)
    if args.pictures < 0:
        parser.error(f'--pictures must not be negative, got {args.pictures}')
    out = args.out or args.work_dir / 'report.html'
    try:
        text = page(read_run(args.work_dir), args.pictures)
    except ValueError as error:
        sys.exit(f'report: error: {error}')
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text, encoding='utf-8')
    print(out)


if __name__ == '__main__':
    main()
