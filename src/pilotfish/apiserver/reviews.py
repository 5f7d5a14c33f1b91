"""Resources that are questions: they can be created, are answered at once, and are not kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pilotfish.api.meta import Document
from pilotfish.apiserver.admission import User
from pilotfish.apiserver.auth import self_subject_access_review, self_subject_review


@dataclass(frozen=True, slots=True)
class Review:
    """One such resource; `answer` takes the user, the document that was sent, and the apiVersion of the answer."""

    group: str
    version: str
    kind: str
    plural: str
    answer: Callable[[User, Any, str], Document]

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}"


REVIEWS = (
    Review(
        "authentication.k8s.io",
        "v1",
        "SelfSubjectReview",
        "selfsubjectreviews",
        lambda user, _, api_version: self_subject_review(user, api_version),
    ),
    Review(
        "authorization.k8s.io",
        "v1",
        "SelfSubjectAccessReview",
        "selfsubjectaccessreviews",
        lambda _, asked, api_version: self_subject_access_review(asked, api_version),
    ),
)


def find_review(group: str, version: str, plural: str) -> Review | None:
    return next((r for r in REVIEWS if (r.group, r.version, r.plural) == (group, version, plural)), None)
