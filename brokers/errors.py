"""What can go wrong between us and a broker, distinguished by remedy.

* :class:`Unreachable`: nobody answered, or not in time. Trying again may help.
* :class:`Refused`: the broker understood and refused. Trying again unchanged will not help.
* :class:`Malformed`: an answer came that we cannot read. It proves nothing, least of all that an account is flat.

Every error says what was attempted, on which account, what was found and what the reader can do. It round-trips through
pickle, because it may cross from one actor to another.
"""

from __future__ import annotations


def with_remedy(found: str, remedy: str) -> str:
    """What was found and what the reader can do, as two sentences; a broker's text often has a full stop already."""
    sentence = found.rstrip()
    if not sentence.endswith(("…", "!", "?")):
        sentence = sentence.rstrip(".") + "."
    return f"{sentence} {remedy}"


class NotDone(Exception):
    """Something was attempted in vain: ``attempted`` is the action in words ("append 3 events to …"), ``found`` what
    stood in its way, ``remedy`` what the reader can do."""

    def __init__(self, attempted: str, found: str, remedy: str) -> None:
        super().__init__(attempted, found, remedy)
        self.attempted = attempted
        self.found = found
        self.remedy = remedy

    def __str__(self) -> str:
        return f"could not {self.attempted}: {self.found}. {self.remedy}"


class BrokerError(Exception):
    """The base of all of them.

    ``attempted`` is the call in words ("read the account details"), ``account`` our name for the account, ``found``
    what came back (already scrubbed of credentials), ``remedy`` what the reader can do.
    """

    def __init__(self, attempted: str, account: str, found: str, remedy: str) -> None:
        super().__init__(attempted, account, found, remedy)
        self.attempted = attempted
        self.account = account
        self.found = found
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.account}: {self.reason}"

    @property
    def reason(self) -> str:
        """The same in words, for a place that already names the account."""
        return f"could not {self.attempted}: {with_remedy(self.found, self.remedy)}"


class Unreachable(BrokerError):
    """No answer, or none in time: the state of the account is unknown. Try again later."""


class Refused(BrokerError):
    """The broker refused (credentials, account, permission): the same call will be refused again."""


class Malformed(BrokerError):
    """An answer that cannot be read as a whole. Treated as unknown, never as empty."""
