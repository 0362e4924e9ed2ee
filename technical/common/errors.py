"""The one exception a user is meant to read."""

from __future__ import annotations


class UserError(Exception):
    """Something the user can put right.

    The message names the file or key, what was expected, what was found, and what to do next. Command lines print it
    without a traceback and leave with status 2.
    """
