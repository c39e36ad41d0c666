"""Credentials: what it means for a lane that a backend refuses them. Pure; time is the number of the latest attempt."""

from __future__ import annotations

from enum import Enum

__all__ = ["Credentials", "Refusal"]


class Refusal(Enum):
    """What is to be done about an attempt whose credentials were refused. Its save is sent again in every case."""

    AGAIN = "again"
    """As soon as the lane lets it: newer credentials than it had are there, or on their way, or waited for."""
    RENEW = "renew"
    """When the backend has renewed them."""
    PAUSE = "pause"
    """When somebody has, and resumes the lane."""


class Credentials:
    """What is known of the credentials of one backend."""

    __slots__ = ("outdated", "renewal", "unproven")

    def __init__(self) -> None:
        self.renewal = 0
        """The token of the renewal that runs; 0 if none does."""
        self.outdated = 0
        """Attempts up to this token may have been sent with older credentials; what they meet says nothing about ours."""
        self.unproven = False
        """Whether they were renewed, and nothing was accepted since."""

    def refused(self, token: int, *, paused: bool, can_renew: bool) -> Refusal:
        """The backend has refused the credentials of an attempt.

        Args:
            token: Which attempt.
            paused: Whether the lane is paused, so that whoever resumes it comes first.
            can_renew: Whether the backend has a way to renew them.
        """
        if self.renewal or paused or token <= self.outdated:
            return Refusal.AGAIN
        return Refusal.RENEW if can_renew and not self.unproven else Refusal.PAUSE

    def accepted(self, token: int) -> None:
        """An attempt has succeeded."""
        if token > self.outdated:
            self.unproven = False

    def end(self, latest: int, *, renewed: bool) -> None:
        """Either they were renewed, or they are for somebody else to renew; later attempts are sent with other ones.

        Args:
            latest: The token of the latest attempt.
            renewed: Whether they are new now.
        """
        self.renewal = 0
        self.outdated = latest
        self.unproven = renewed
