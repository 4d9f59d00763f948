"""What is asked by creating it, and kept nowhere: who am I, what may I, whose token is this."""

from collections.abc import Mapping
from dataclasses import dataclass

from cachefs.testing.kubernetes.documents import Document, timestamp
from cachefs.testing.kubernetes.failures import not_found
from cachefs.testing.kubernetes.permissions import Attributes, Permissions
from cachefs.testing.kubernetes.requests import User
from cachefs.testing.kubernetes.tokens import Tokens


@dataclass(frozen=True, slots=True)
class Reviews:
    """Answers reviews."""

    permissions: Permissions
    tokens: Tokens
    authorizing: bool

    def answer(self, plural: str, body: Document, user: User, namespace: str) -> Document:
        """Return a review with its status."""
        spec = body.get("spec") or {}
        status: Document
        if plural == "selfsubjectaccessreviews":
            status = self._access(user, spec)
        elif plural in ("subjectaccessreviews", "localsubjectaccessreviews"):
            other = User(spec.get("user", ""), tuple(spec.get("groups") or ()))
            status = self._access(other, spec)
        elif plural == "selfsubjectrulesreviews":
            status = self._rules(user, spec.get("namespace") or namespace)
        elif plural == "tokenreviews":
            status = self._token(spec)
        else:
            status = {"userInfo": user_info(user)}
        return {**body, "metadata": {"creationTimestamp": None}, "status": status}

    def _access(self, user: User, spec: Document) -> Document:
        wanted = spec.get("resourceAttributes")
        if not self.authorizing:
            allowed = True
        elif wanted is not None:
            inner = wanted.get("subresource", "")
            asked = Attributes(
                verb=wanted.get("verb", ""),
                group=wanted.get("group", ""),
                resource=wanted.get("resource", "") + (f"/{inner}" if inner else ""),
                namespace=wanted.get("namespace", ""),
                name=wanted.get("name", ""),
            )
            allowed = self.permissions.allows(user, asked)
        else:
            path = spec.get("nonResourceAttributes") or {}
            allowed = self.permissions.allows_path(user, path.get("verb", ""), path.get("path", ""))
        return {"allowed": allowed}

    def _rules(self, user: User, namespace: str) -> Document:
        rules = list(self.permissions.rules(user, namespace))
        return {
            "incomplete": False,
            "resourceRules": [rule for rule in rules if rule.get("resources")],
            "nonResourceRules": [rule for rule in rules if rule.get("nonResourceURLs")],
        }

    def _token(self, spec: Document) -> Document:
        user = self.tokens.user_of(spec.get("token", ""))
        if user is None:
            return {"authenticated": False, "error": "invalid bearer token"}
        return {"authenticated": True, "user": user_info(user)}

    def token_request(self, body: Document, namespace: str, name: str) -> Document:
        """Return a ``TokenRequest`` with a token of a service account.

        Raises:
            Refusal: there is no such account.
        """
        account = self.permissions.store.get(("", "serviceaccounts", namespace, name))
        if account is None:
            raise not_found("", "serviceaccounts", name)
        seconds = int((body.get("spec") or {}).get("expirationSeconds") or 3600)
        token = self.tokens.account(namespace, name, uid=account["metadata"]["uid"])
        until = timestamp(self.tokens.runtime.wall() + seconds)
        status = {"token": token, "expirationTimestamp": until}
        return {**body, "metadata": {"name": name, "namespace": namespace}, "status": status}


def user_info(user: User) -> Document:
    """Return a user as reviews show one."""
    uid: Mapping[str, str] = {"uid": user.uid} if user.uid else {}
    return {"username": user.name, "groups": list(user.groups), **uid}
