"""A history narrowed to pictures: those with a mark, those on a board."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from django.db.models import Exists, OuterRef, QuerySet

from generation.tasks.models import BoardPicture, Image, Mark, Task

UNMARKED: Final = "unmarked"
MARKS: Final = (Mark.APPROVED.value, Mark.REJECTED.value, UNMARKED)


@dataclass(frozen=True)
class Picks:
    """Which pictures; empty means: all. `mark` is one of MARKS, `board` the id of one that the caller may see."""

    mark: str = ""
    board: UUID | None = None

    def narrowed(self, rows: QuerySet[Task]) -> QuerySet[Task]:
        """The tasks with such pictures."""
        if self.mark == UNMARKED:
            rows = rows.filter(Exists(Image.objects.filter(task_id=OuterRef("pk"), mark=Mark.NONE)))
        elif self.mark:
            rows = rows.filter(pk__in=Image.objects.filter(mark=self.mark).order_by().values("task_id"))
        if self.board:
            rows = rows.filter(pk__in=BoardPicture.objects.filter(board=self.board).values("task_id"))
        return rows

    def among(self, images: Mapping[UUID, list[Image]]) -> dict[UUID, list[Image]]:
        """The pictures themselves, of those of a page of tasks."""
        kept = {task_id: [image for image in found if self._has_mark(image)] for task_id, found in images.items()}
        if self.board is None:
            return kept
        rows = BoardPicture.objects.filter(board=self.board, task_id__in=list(kept))
        on_board = set(rows.values_list("task_id", "index"))
        return {
            task_id: [image for image in found if (task_id, image.index) in on_board] for task_id, found in kept.items()
        }

    def _has_mark(self, image: Image) -> bool:
        return not self.mark or image.mark == ("" if self.mark == UNMARKED else self.mark)


ALL_PICTURES: Final = Picks()
