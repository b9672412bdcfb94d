"""Every error a user can cause. Each message says what is wrong, where, what is accepted, what to run next."""


class TillerError(Exception):
    """Root of the tree; the entry points print it as one line and exit with status 2."""


class ConfigError(TillerError):
    """A config key, type or value that the named component does not accept."""


class InterfaceError(TillerError):
    """Two parts that must speak the same Interface do not."""


class ObservationError(TillerError):
    """An observation or action with a wrong name, shape, dtype or a value that is not finite."""


class DatasetError(TillerError):
    """A dataset or episode file that is missing, incomplete or corrupt."""


class CheckpointError(TillerError):
    """A checkpoint or exported policy that is missing or corrupt."""


class SceneError(TillerError):
    """A scene, start or goal that cannot be used, e.g. a goal inside an obstacle."""


class NotSupportedError(TillerError):
    """An operation that this policy, environment or back end does not offer."""


class MissingExtraError(TillerError):
    """An optional package is not installed; the message names the extra that brings it."""


class DivergedError(TillerError):
    """A loss or parameter became NaN or infinite during training."""


class DriverError(TillerError):
    """A robot that cannot be reached, refuses, or fails; or a driver without limits."""


class MessageError(TillerError):
    """A message that is not of its type, damaged, too large, or of an unknown type."""
