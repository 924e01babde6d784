"""Approving and rejecting pictures; `GET /api/v1/image/tasks?mark=approved` finds them again."""

from typing import ClassVar, TypedDict

from drf_spectacular.utils import extend_schema
from rest_framework.response import Response

from generation.api import openapi_docs
from generation.api.authentication import KeyRequest
from generation.api.base import ApiView
from generation.api.requests.choices import OneOf
from generation.api.sorting.pictures import PicturesSerializer, references
from generation.api.validation import checked
from generation.tasks import access
from generation.tasks.models import Mark
from generation.tasks.sorting import marks


class MarksSerializer(PicturesSerializer):
    """Pictures, and the mark that they get."""

    mark = OneOf((Mark.APPROVED.value, Mark.REJECTED.value), allow_null=True, help_text="Null takes the mark away.")


class ChangedBody(TypedDict):
    changed: int


class MarksView(ApiView):
    """Marks of pictures."""

    scopes: ClassVar = {"POST": "sort"}

    @extend_schema(
        **openapi_docs.operation(
            "marks", "Approve or reject images", "sorting", data=ChangedBody, also=(404,), request=MarksSerializer
        )
    )
    def post(self, request: KeyRequest) -> Response:
        """All or none of them; `changed` counts those that had another mark."""
        asked = checked(MarksSerializer, request.data)
        images = access.find_images(references(asked), request.user, change=True)
        return Response({"changed": marks.set_mark(images, Mark(asked["mark"] or ""))})
