"""Pictures named in a request: by their task and their number."""

from typing import Any, Final
from uuid import UUID

from rest_framework import serializers

from generation.api.validation import StrictSerializer
from imagegenx_site.ids import from_public

MOST: Final = 1000  # pictures of one request


class PictureSerializer(StrictSerializer):
    """One picture."""

    task_id = serializers.CharField(max_length=60)
    index = serializers.IntegerField(min_value=0, max_value=9999, required=False, default=0)

    def validate_task_id(self, text: str) -> UUID:
        task_id = from_public(text)
        if task_id is None:
            raise serializers.ValidationError("Task ids look like img0198… and have 35 characters.", "malformed")
        return task_id


class PicturesSerializer(StrictSerializer):
    """The pictures of a request."""

    pictures = serializers.ListField(child=PictureSerializer(), min_length=1, max_length=MOST)


def references(asked: dict[str, Any]) -> list[tuple[UUID, int]]:
    """Each named picture once, in the order given."""
    return list(dict.fromkeys((one["task_id"], one["index"]) for one in asked["pictures"]))
