"""One module per word of the command line.

Each states ``NAME``, ``HELP`` and ``EXAMPLE`` and has ``add_arguments(parser)`` and ``run(args) -> int``. At import a
command needs argparse alone; what it works with is imported inside ``run``, so that ``--help`` is instant.
"""
