"""The words of 'egoflow evaluate': each module is one, with ``HELP``, ``add_arguments`` and ``score``."""
