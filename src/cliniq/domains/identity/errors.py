"""Every refusal this room can utter."""

from cliniq.kernel.problem import Conflict, Problem


class SignInFailed(Problem):
    """Unknown, wrong and disabled cannot be told apart: same status, body and time."""

    status = 401
    code = "SIGN_IN_FAILED"
    title = "E-mail and password do not match"


class RefreshRefused(Problem):
    """The refresh token is not ours, too old, used before, or its sign-in has ended."""

    status = 401
    code = "REFRESH_REFUSED"
    title = "Sign in again"


class EmailTaken(Conflict):
    """An account with this address exists; only roots and staff ever hear this."""

    code = "EMAIL_TAKEN"
    title = "An account with this e-mail address exists"
