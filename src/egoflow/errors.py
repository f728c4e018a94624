"""The errors that a user can cause; the command line prints each as one line and exits with 2."""


class EgoflowError(Exception):
    """A mistake that the user can mend; its text names the file, what was expected and what to do."""


class ShapeError(EgoflowError):
    """A tensor of the wrong shape or type at a public boundary."""


class DataError(EgoflowError):
    """A file, folder or stream that cannot be used."""


class WriteError(DataError):
    """A file that cannot be written, for want of space or permission: no fault of what was read."""


class ConfigError(EgoflowError):
    """An unknown or ill-typed setting, method, preset, world or protocol."""


class InUseError(ConfigError):
    """A folder in which another program is at work."""


class CheckpointError(EgoflowError):
    """A run folder that is missing, damaged or of another method."""


class TrainingError(EgoflowError):
    """Training that stopped by itself: a non-finite loss or a collapse."""
