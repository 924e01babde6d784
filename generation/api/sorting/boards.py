"""Boards: folders of pictures; `GET /api/v1/image/tasks?board_id=…` lists what is on one."""

from typing import Any, ClassVar, TypedDict

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.response import Response

from generation.api import openapi_docs
from generation.api.authentication import KeyRequest
from generation.api.base import ApiView
from generation.api.requests.idempotency import PARAMETER, once
from generation.api.sorting.pictures import MOST, PictureSerializer, references
from generation.api.validation import StrictSerializer, checked
from generation.tasks import access
from generation.tasks.models import Board
from generation.tasks.presentation import Moment
from generation.tasks.sorting import boards
from imagegenx_site.errors import Fault, InvalidRequest


class BoardSerializer(StrictSerializer):
    """A new board."""

    name = serializers.CharField(max_length=100)
    shared = serializers.BooleanField(required=False, default=False, help_text="The team sees it.")


class BoardChangeSerializer(StrictSerializer):
    """What becomes different."""

    name = serializers.CharField(max_length=100, required=False)
    shared = serializers.BooleanField(required=False)


class BoardPicturesSerializer(StrictSerializer):
    """Pictures that are put on the board, and such as are taken from it."""

    add = serializers.ListField(child=PictureSerializer(), max_length=MOST, required=False)
    remove = serializers.ListField(child=PictureSerializer(), max_length=MOST, required=False)


class BoardBody(TypedDict):
    board_id: str
    name: str
    shared: bool
    user: str
    pictures: int
    created_at: Moment


class BoardChangesBody(TypedDict):
    added: int
    removed: int


def board_body(board: Board, count: int) -> BoardBody:
    """A board as clients see it."""
    return {
        "board_id": board.public_id,
        "name": board.name,
        "shared": board.shared,
        "user": board.user.get_username(),
        "pictures": count,
        "created_at": board.created_at.isoformat(timespec="seconds"),
    }


class BoardsView(ApiView):
    """The caller's boards."""

    scopes: ClassVar = {"GET": "read", "POST": "sort"}

    @extend_schema(**openapi_docs.operation("boards", "List boards", "sorting", data=openapi_docs.listed(BoardBody)))
    def get(self, request: KeyRequest) -> Response:
        """Your boards and those that your team shares, the newest first."""
        return Response({"items": [board_body(row, row.count) for row in boards.of(request.user)]})  # type: ignore[attr-defined]  # annotated

    @extend_schema(
        **openapi_docs.operation(
            "board-create", "Create a board", "sorting", data=BoardBody, code=201, request=BoardSerializer,
            parameters=[PARAMETER],
        )
    )  # fmt: skip
    def post(self, request: KeyRequest) -> Response:
        """A new board without pictures."""
        asked = checked(BoardSerializer, request.data)

        def make() -> Response:
            return Response(board_body(boards.create(request.user, asked["name"], asked["shared"]), 0), status=201)

        return once(request, "boards", request.data, make)


class BoardView(ApiView):
    """One board."""

    scopes: ClassVar = {"PATCH": "sort", "DELETE": "sort"}

    @extend_schema(
        **openapi_docs.operation(
            "board-change", "Rename or share a board", "sorting", data=BoardBody, also=(404,),
            request=BoardChangeSerializer,
        )
    )  # fmt: skip
    def patch(self, request: KeyRequest, board_id: str) -> Response:
        """Only who made it may."""
        asked = checked(BoardChangeSerializer, request.data)
        board = boards.change(_own(request, board_id), asked)
        return Response(board_body(board, board.pictures.count()))

    @extend_schema(**openapi_docs.operation("board-delete", "Delete a board", "sorting", data=BoardBody, also=(404,)))
    def delete(self, request: KeyRequest, board_id: str) -> Response:
        """As it was; its pictures stay where they are otherwise."""
        board = _own(request, board_id)
        was = board_body(board, board.pictures.count())
        board.delete()
        return Response(was)


class BoardPicturesView(ApiView):
    """What is on a board."""

    scopes: ClassVar = {"POST": "sort"}

    @extend_schema(
        **openapi_docs.operation(
            "board-pictures", "Put images on a board, or take them away", "sorting", data=BoardChangesBody,
            also=(404, 409), request=BoardPicturesSerializer,
        )
    )  # fmt: skip
    def post(self, request: KeyRequest, board_id: str) -> Response:
        """What is on it already, or not on it, stays so and is not counted."""
        asked = checked(BoardPicturesSerializer, request.data)
        if not asked.get("add") and not asked.get("remove"):
            raise InvalidRequest([Fault("add", "required", "Name pictures to add or to remove.")])
        board = boards.find(board_id, request.user)
        taken, put = _named(asked, "remove"), _named(asked, "add")
        images = access.find_images(put, request.user, change=False)
        removed = boards.remove(board, taken, request.user)
        return Response({"added": boards.add(board, images, request.user), "removed": removed})


def _named(asked: dict[str, Any], name: str) -> Any:
    return references({"pictures": asked.get(name, [])})


def _own(request: KeyRequest, board_id: str) -> Board:
    board = boards.find(board_id, request.user)
    boards.check_own(board, request.user)
    return board
