"""The copies in a backup folder: which exist, are due, are outdated, and are needed for a restore. No server needed.

{BACKUP_DIR}/{system}-{timeline}/           one timeline; a restored server begins another
    wal/00000001000000000000002A            segments as the server wrote them; the last one `.partial`, growing
    base/20261125T160000-full/              a copy of the cluster
    base/20261125T170000-incremental/       what changed since the copy before it
    base/20261125T160000-full.json          written last: a copy without it is incomplete, and is removed
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from deploy.processes import DeployError
from deploy.state import write_private

SEGMENT_BYTES = 16 << 20  # initdb's default


@dataclass(frozen=True)
class BackupConfig:
    """When copies are made, and how far back a restore can go (`keep`)."""

    full_every: timedelta = timedelta(hours=24)
    incremental_every: timedelta = timedelta(hours=1)
    keep: timedelta = timedelta(days=7)


@dataclass(frozen=True)
class Copy:
    """A complete base backup. `parent`: the copy that an incremental one builds on; `first_segment`: the oldest WAL
    that a restore from it reads. Times are UTC.
    """

    line: str
    name: str
    parent: str
    began: datetime
    ended: datetime
    first_segment: str

    @property
    def full(self) -> bool:
        """Whether it stands alone."""
        return not self.parent

    def folder(self, root: Path) -> Path:
        """The copy's files."""
        return root / self.line / "base" / self.name


def read(root: Path) -> list[Copy]:
    """All complete copies, oldest first."""
    found = [_read_one(path) for path in root.glob("*/base/*.json")]
    return sorted(found, key=lambda copy: copy.ended)


def _read_one(path: Path) -> Copy:
    try:
        values: dict[str, str] = json.loads(path.read_text())
        began, ended = (datetime.fromisoformat(values.pop(name)) for name in ("began", "ended"))
        return Copy(line=path.parent.parent.name, began=began, ended=ended, **values)
    except (ValueError, TypeError, KeyError) as error:
        raise DeployError(f"{path} is damaged: move it away, its copy is then ignored.") from error


def mark_complete(root: Path, copy: Copy) -> None:
    """Mark a copy as complete."""
    values = asdict(copy) | {"began": copy.began.isoformat(), "ended": copy.ended.isoformat()}
    del values["line"]
    write_private(copy.folder(root).with_suffix(".json"), values)


def due(copies: Sequence[Copy], now: datetime, config: BackupConfig) -> str:
    """The copy that is due: "full", "incremental" or "". `copies`: those of one timeline."""
    fulls = [copy for copy in copies if copy.full]
    if not fulls or now - fulls[-1].began >= config.full_every:
        return "full"
    return "incremental" if now - copies[-1].began >= config.incremental_every else ""


def outdated(copies: Sequence[Copy], now: datetime, config: BackupConfig) -> list[Copy]:
    """Copies that no restore within the last `keep` needs: those before the newest full copy that is older than `keep`,
    and those of other timelines that ended before.
    """
    bound = now - config.keep
    gone = []
    newest_line = copies[-1].line if copies else ""
    for line in {copy.line for copy in copies}:
        own = [copy for copy in copies if copy.line == line]
        old_fulls = [copy for copy in own if copy.full and copy.ended <= bound]
        if line != newest_line and own[-1].ended <= bound:
            gone += own
        elif old_fulls:
            gone += [copy for copy in own if copy.ended < old_fulls[-1].ended]
    return gone


def chain(copies: Sequence[Copy], at: datetime | None) -> list[Copy]:
    """The copies to combine for the time `at` (None: the latest), the full one first."""
    fitting = [copy for copy in copies if at is None or copy.ended <= at]
    if not fitting:
        first = f" The earliest restorable time is {copies[0].ended:%Y-%m-%d %H:%M:%S} UTC." if copies else ""
        raise DeployError(f"There is no backup of that time.{first}")
    links = [fitting[-1]]
    by_name = {copy.name: copy for copy in copies if copy.line == links[0].line}
    while links[0].parent:
        if links[0].parent not in by_name:
            raise DeployError(f"{links[0].name} builds on {links[0].parent}, which is gone.")
        links.insert(0, by_name[links[0].parent])
    return links


def segment_name(timeline: int, position: str, segment_bytes: int = SEGMENT_BYTES) -> str:
    """The WAL file that holds a position like 0/2A000060."""
    high, low = (int(part, 16) for part in position.split("/"))
    return f"{timeline:08X}{high:08X}{low // segment_bytes:08X}"


def parse_time(text: str) -> datetime:
    """Parse an ISO time, UTC unless it has a zone. Raises DeployError."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise DeployError(f"{text!r} is not a time: write it like 2026-11-25T16:30:00 (UTC).") from error
    return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
