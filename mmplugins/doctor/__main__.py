"""``python -m mmplugins.doctor [CONFIG] [--data]``."""

import sys
from argparse import ArgumentParser
from collections.abc import Sequence

from .installation import main as installation


def main(argv: Sequence[str] | None = None) -> None:
    """Reports what is installed, or checks a config; exits with 1 where the config has an error.

    Args:
        argv: The command line; None: the program's own.
    """
    if not (sys.argv[1:] if argv is None else argv):  # needs no toolbox
        installation()
        return
    from mmplugins.engine.launch import CfgOptions, UsageError, load_config

    from .check import check

    parser = ArgumentParser(
        prog='python -m mmplugins.doctor',
        description='Without arguments: what is installed. With a config: what is wrong with it.',
    )
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--data', action='store_true', help='read files, and send a batch of them through model and loss'
    )
    parser.add_argument('--files', type=int, metavar='N', help='how many files (default: 200, at most 5 s)')
    parser.add_argument('--network', action='store_true', help='ask servers whether weights are there')
    parser.add_argument('--cfg-options', nargs='+', action=CfgOptions, metavar='KEY=VALUE', help='override settings')
    parser.set_defaults(work_dir=None, launcher='none')
    args = parser.parse_args(argv)
    if args.files is not None and args.files < 1:
        parser.error(f'--files takes a number from 1 on, got {args.files}')
    try:
        cfg = load_config(args)
    except UsageError as error:
        sys.exit(f'doctor: error: {error}')
    report = check(
        cfg, args.data or args.files is not None, args.files, args.network, lambda found: print(found, flush=True)
    )
    print(report.summary)
    sys.exit(1 if report.count('error') else 0)


if __name__ == '__main__':
    main()
