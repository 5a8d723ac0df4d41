"""One family of errors for everything that a user can put right."""

from __future__ import annotations


class SpatialFormerError(Exception):
    """A problem that the user can understand and mend.

    The command line prints it as one sentence and exits with 2; a page shows it in place. Anything
    else that is raised is a fault of ours (exit code 1).

    Parameters
    ----------
    message
        What was found and what was expected, as one sentence.
    where
        The file, column, field or object that it concerns.
    fix
        What to do about it.
    """

    def __init__(self, message: str, where: str | None = None, fix: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.fix = fix

    def __str__(self) -> str:
        where = f" ({self.where})" if self.where else ""
        fix = f" {self.fix}" if self.fix else ""
        return f"{self.message}{where}{fix}"

    def __reduce__(self) -> tuple[type[SpatialFormerError], tuple[str, str | None, str | None]]:
        # Exception pickles only its args; workers in other processes must keep where and fix.
        return type(self), (self.message, self.where, self.fix)


class Cancelled(SpatialFormerError):
    """The user cancelled the work; nothing half-done is left behind."""

    def __init__(
        self,
        message: str = "Cancelled.",
        where: str | None = None,
        fix: str | None = None,
    ) -> None:
        super().__init__(message, where, fix)
