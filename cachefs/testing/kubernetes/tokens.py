"""Bearer tokens, and whom they stand for."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

from cachefs.ports import Runtime
from cachefs.testing.kubernetes.failures import unauthorized
from cachefs.testing.kubernetes.permissions import ANONYMOUS, AUTHENTICATED
from cachefs.testing.kubernetes.requests import ADMIN, User


@dataclass(slots=True)
class Tokens:
    """The tokens that were given out."""

    runtime: Runtime
    authorizing: bool
    """Whether somebody without a token is nobody; else everybody is the administrator."""
    _users: dict[str, User] = field(default_factory=dict)

    def issue(self, user: User) -> str:
        """Return a new token of a user."""
        token = secrets.token_urlsafe(24)
        self._users[token] = user
        return token

    def account(self, namespace: str, name: str, *, uid: str = "") -> str:
        """Return a new token of a service account."""
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", AUTHENTICATED)
        return self.issue(User(f"system:serviceaccount:{namespace}:{name}", groups, uid))

    def revoke(self, token: str) -> None:
        """Know a token no longer, as when it has expired."""
        self._users.pop(token, None)

    def user_of(self, token: str) -> User | None:
        """Return whom a token stands for."""
        return self._users.get(token)

    def who(self, headers: Mapping[str, str]) -> User:
        """Return who asks.

        Raises:
            Refusal: 401, the token stands for nobody.
        """
        kind, _, token = headers.get("authorization", "").partition(" ")
        user = self.user_of(token.strip()) if kind.lower() == "bearer" else None
        if user is not None:
            return user
        if not self.authorizing:
            return ADMIN
        if kind:
            raise unauthorized()
        return ANONYMOUS
