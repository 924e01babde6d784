"""LoRAs: upload, list, enable, disable, delete."""

from collections.abc import Iterator
from typing import Annotated, ClassVar, TypedDict

from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.response import Response

from generation.accounts.plans import plan_of
from generation.api import openapi_docs
from generation.api.authentication import KeyRequest
from generation.api.base import ApiView, Upload
from generation.api.requests.idempotency import PARAMETER, once
from generation.api.validation import JSONParser, MultiPartParser, StrictSerializer, checked
from generation.catalogue import loras
from generation.catalogue.models import Lora
from generation.policy import rules, subjects
from imagegenx_site.errors import Fault, Forbidden, InvalidRequest, NotFound
from storage.store import lora_files


class UploadSerializer(StrictSerializer):
    """A LoRA file in safetensors format."""

    name = serializers.CharField(
        max_length=50, help_text="Lowercase letters, digits, - and _. An existing name gets a new version."
    )
    file = serializers.FileField(help_text="The .safetensors file.")
    base_family = serializers.CharField(
        required=False, max_length=40, default="sd15", help_text="Such as sd15 or sdxl."
    )


class LoraBody(TypedDict):
    name: str
    version: int
    title: str
    sha256: str
    bytes: int
    rank: int
    base_family: str
    triggers: Annotated[list[str], "Words of a prompt that call it."]
    state: str
    uses: int
    own: Annotated[bool, "The caller's own upload."]


class DeletedLoraBody(TypedDict):
    name: Annotated[str, "`name@version`."]
    deleted: bool


class LorasView(ApiView):
    """The LoRAs that the caller may use."""

    scopes: ClassVar = {"GET": "read"}

    @extend_schema(**openapi_docs.operation("loras", "List LoRAs", "lora", data=openapi_docs.listed(LoraBody)))
    def get(self, request: KeyRequest) -> Response:
        """Every version, the newest of a name first."""
        rows = (
            loras.visible(request.user, plan_of(request.auth)).exclude(state=Lora.State.DELETED).select_related("owner")
        )
        return Response({"items": [lora_body(row, request) for row in rows.order_by("name", "-version")[:1000]]})


class LoraUploadView(ApiView):
    """Upload."""

    scopes: ClassVar = {"POST": "lora"}
    parser_classes = [MultiPartParser, JSONParser]

    @classmethod
    def upload(cls) -> Upload:
        most = settings.MAX_LORA_BYTES + settings.FREE_BODY_BYTES  # the file, and the form round it
        return Upload(most, "LoRA uploads", settings.LORA_UPLOADS_PER_USER)

    @extend_schema(
        **openapi_docs.operation(
            "lora-upload",
            "Upload a LoRA",
            "lora",
            data=LoraBody,
            code=201,
            also=(409, 413, 415, 422),
            request={"multipart/form-data": UploadSerializer},
            parameters=[PARAMETER],
        )
    )
    def post(self, request: KeyRequest) -> Response:
        """A new version of a name. Only safetensors files are taken, and only the tensors of a LoRA."""
        if not plan_of(request.auth).lora_upload:
            raise Forbidden("Your plan does not include LoRA uploads.")
        asked = checked(UploadSerializer, request.data)
        _check_family(asked["base_family"])

        def check(triggers: list[str]) -> None:
            found = rules.faults(request.auth, subjects.of_lora(asked["name"], asked["file"].name or "", triggers))
            if found:
                raise InvalidRequest(found)

        def make() -> Response:
            row = loras.receive(
                asked["name"],
                _chunks(asked["file"]),
                owner=request.user,
                family=asked["base_family"],
                files=lora_files(),
                max_bytes=settings.MAX_LORA_BYTES,
                check=check,
            )
            return Response(lora_body(row, request), status=201)

        return once(request, "lora/upload", asked, make)


class LoraStateView(ApiView):
    """Enable or disable."""

    scopes: ClassVar = {"POST": "lora"}
    state: ClassVar[str] = Lora.State.ACTIVE

    def change(self, request: KeyRequest, name: str, version: int) -> Response:
        """Move the version to this view's state."""
        row = _own(request, name, version)
        row.state = self.state
        row.save(update_fields=["state"])
        return Response(lora_body(row, request))


class LoraEnableView(LoraStateView):
    @extend_schema(
        **openapi_docs.operation("lora-enable", "Enable a LoRA", "lora", data=LoraBody, also=(404,), request=None)
    )
    def post(self, request: KeyRequest, name: str, version: int) -> Response:
        """Offer the version again."""
        return self.change(request, name, version)


class LoraDisableView(LoraStateView):
    state = Lora.State.DISABLED

    @extend_schema(
        **openapi_docs.operation("lora-disable", "Disable a LoRA", "lora", data=LoraBody, also=(404,), request=None)
    )
    def post(self, request: KeyRequest, name: str, version: int) -> Response:
        """Stop offering the version. Tasks that name it already still use it."""
        return self.change(request, name, version)


class LoraView(ApiView):
    """One version."""

    scopes: ClassVar = {"DELETE": "lora"}

    @extend_schema(**openapi_docs.operation("lora-delete", "Delete a LoRA", "lora", data=DeletedLoraBody, also=(404,)))
    def delete(self, request: KeyRequest, name: str, version: int) -> Response:
        """Delete the version. Tasks that name it already still use it."""
        row = _own(request, name, version)
        row.state = Lora.State.DELETED
        row.save(update_fields=["state"])
        return Response({"name": str(row), "deleted": True})


def lora_body(row: Lora, request: KeyRequest) -> LoraBody:
    """A version as clients see it."""
    return {
        "name": row.name,
        "version": row.version,
        "title": row.title,
        "sha256": row.sha256,
        "bytes": row.bytes,
        "rank": row.rank,
        "base_family": row.base_family,
        "triggers": row.triggers,
        "state": row.state,
        "uses": row.uses,
        "own": row.owner_id == request.user.pk,
    }


def _own(request: KeyRequest, name: str, version: int) -> Lora:
    """The version of the caller's team. Raises NotFound, also for everybody's LoRAs: those are the operator's."""
    rows = loras.visible(request.user).exclude(owner=None).exclude(state=Lora.State.DELETED)
    row = rows.filter(name=name, version=version).first() if version < 2**31 and "\0" not in name else None
    if row is None:
        raise NotFound("Your team has no such LoRA.")
    return row


def _chunks(file: UploadedFile) -> Iterator[bytes]:
    yield from file.chunks(1 << 20)


def _check_family(family: str) -> None:
    if not (family.isascii() and family.replace("-", "").isalnum()):
        raise InvalidRequest([Fault("base_family", "malformed", "sd15, sd21, sdxl ...")])
