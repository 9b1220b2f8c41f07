"""What a user can mend, and the one way to say so."""


class UserError(ValueError):
    """What a user can mend; the command line prints its one line and exits with 2."""


class SettingError(UserError):
    """A setting that cannot be used: the message names it and the cure."""


class DivergedError(SettingError):
    """Training ended without usable weights; a lower rate is the cure."""


def require(condition: bool, message: str) -> None:
    """Raises `SettingError` with the message unless the condition holds."""
    if not condition:
        raise SettingError(message)
