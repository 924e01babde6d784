"""Stores, folders and limits of a test are its own. Each stage is a visit of its own, as where the store is elsewhere;
test_visit.py has the local one.
"""

import pytest

from fixtures.rows import fresh_limits, own_folders
from generation.tasks import stages


@pytest.fixture(autouse=True)
def store_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "is_local", lambda _: False)
    follows = stages.follows_at_once
    monkeypatch.setattr(stages, "follows_at_once", lambda stage: None if stage.name == "upload" else follows(stage))
