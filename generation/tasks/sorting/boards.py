"""Boards: folders of pictures. Whoever made one renames and deletes it; on a shared one the team's members put pictures
and take them away, and a viewer sees it (generation/accounts/rights.py).
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from django.db import transaction
from django.db.models import Count, Q, QuerySet

from generation.accounts import rights
from generation.accounts.models import User
from generation.tasks.models import Board, BoardPicture, Image
from imagegenx_site.errors import Conflict, Forbidden, NotFound
from imagegenx_site.ids import from_public

MOST_BOARDS: Final = 200  # of a user
MOST_PICTURES: Final = 20_000  # of a board


def of(user: User) -> QuerySet[Board]:
    """The user's boards and those that the team shares, the newest first; `count` of each: its pictures."""
    mine = Q(user=user)
    shared = Q(shared=True, user__team=user.team_id) if user.team_id else Q(pk__in=())
    rows = Board.objects.select_related("user").filter(mine | shared)
    return rows.annotate(count=Count("pictures")).order_by("-id")


def find(public_id: str, user: User) -> Board:
    """A board that the user sees. Raises NotFound."""
    board_id = from_public(public_id, "brd")
    board = of(user).filter(pk=board_id).first() if board_id else None
    if board is None:
        raise _not_found(public_id)
    return board


def _not_found(public_id: str) -> NotFound:
    return NotFound(f"There is no board {public_id[:60]} of yours. `GET /api/v1/boards` lists them.")


def create(user: User, name: str, shared: bool) -> Board:
    """A new, empty board. Raises Conflict when the user has MOST_BOARDS."""
    with transaction.atomic():
        User.objects.select_for_update(no_key=True).get(pk=user.pk)
        if Board.objects.filter(user=user).count() >= MOST_BOARDS:
            raise Conflict(f"You have {MOST_BOARDS} boards. Delete one first.")
        return Board.objects.create(user=user, name=name, shared=shared)


def change(board: Board, changes: Mapping[str, Any]) -> Board:
    """The board with another `name`, or `shared` or not. Raises NotFound when it was deleted meanwhile."""
    if changes and not Board.objects.filter(pk=board.pk).update(**changes):
        raise _not_found(board.public_id)
    for name, value in changes.items():
        setattr(board, name, value)
    return board


def check_own(board: Board, user: User) -> None:
    """Raises Forbidden for a board that a team-mate made."""
    if board.user_id != user.pk:
        raise Forbidden("Only who made a board renames, shares or deletes it.")


def add(board: Board, images: Sequence[Image], user: User) -> int:
    """Put pictures on the board; how many were not on it yet. Raises Forbidden, Conflict when it is full,
    NotFound when it was deleted meanwhile.
    """
    _check_change(board, user)
    wanted = [BoardPicture(board=board, task_id=image.task_id, index=image.index) for image in images]
    with transaction.atomic():
        if Board.objects.select_for_update().filter(pk=board.pk).first() is None:
            raise _not_found(board.public_id)
        before = board.pictures.count()
        if before + len(wanted) > MOST_PICTURES:
            raise Conflict(f"A board has at most {MOST_PICTURES} pictures.")
        BoardPicture.objects.bulk_create(wanted, ignore_conflicts=True)
        return board.pictures.count() - before


def remove(board: Board, references: Collection[tuple[UUID, int]], user: User) -> int:
    """Take pictures from the board, also such as are gone; how many were on it. Raises Forbidden."""
    _check_change(board, user)
    wanted = set(references)
    rows = board.pictures.filter(task_id__in={task_id for task_id, _ in wanted})
    found = [row.pk for row in rows if (row.task_id, row.index) in wanted]
    return BoardPicture.objects.filter(pk__in=found).delete()[0]


def _check_change(board: Board, user: User) -> None:
    if not rights.may_change(board.user, user):
        raise Forbidden("Your role in the team lets you see this board, not change it.")
