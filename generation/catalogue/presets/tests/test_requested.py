"""Pulls that were asked for in the admin."""

from datetime import timedelta

import pytest
from django.utils import timezone

from generation.catalogue.models import ImageModel, ModelPreset
from generation.catalogue.presets import requested
from generation.catalogue.presets.hub import PullError
from generation.catalogue.presets.tests.test_pulling import UNET, hub, models_dir, preset  # noqa: F401  # fixtures

pytestmark = pytest.mark.django_db


def row():
    return ModelPreset.objects.get(name="acme")


def test_one_that_is_asked_for_is_pulled_once_and_says_so(preset, hub):  # noqa: F811
    requested.ask("acme", licence_accepted=False)
    assert row().pull_state == "asked"
    claimed = requested.claim()
    assert claimed == preset
    assert requested.claim() is None, "it is somebody's"
    requested.run(claimed)
    assert (row().pull_state, ImageModel.objects.filter(name="acme").exists()) == ("done", True)
    assert '"model": "acme"' in row().pull_note
    assert requested.claim() is None


def test_how_far_it_is_stands_in_the_row(preset, hub, monkeypatch):  # noqa: F811
    monkeypatch.setattr(requested, "NOTE_S", 0.0)
    written = []
    real = requested._Notes.write
    monkeypatch.setattr(requested._Notes, "write", lambda self, *note: written.append(note) or real(self, *note))
    requested.ask("acme", licence_accepted=False)
    # Fetched in threads, whose connections do not see this test's transaction: only what they would write is looked at.
    requested.run(requested.claim())
    assert any(" of " in note and note.endswith("(100%)") for state, note in written if state == "running")


def test_one_that_fails_says_why(preset, hub):  # noqa: F811
    hub.faults["api"] = [401] * 9
    requested.ask("acme", licence_accepted=False)
    requested.run(requested.claim())
    assert row().pull_state == "failed"
    assert "HF_TOKEN" in row().pull_note


def test_one_whose_process_died_is_taken_up_again(preset, hub):  # noqa: F811
    requested.ask("acme", licence_accepted=False)
    assert requested.claim()
    long_ago = timezone.now() - timedelta(seconds=requested.STALE_S + 1)
    ModelPreset.objects.filter(name="acme").update(pull_at=long_ago)
    assert requested.claim() == preset


def test_a_licence_is_accepted_before_it_is_noted(preset):  # noqa: F811
    ModelPreset.objects.filter(name="acme").update(must_accept=True)
    with pytest.raises(PullError, match="--accept-licence"):
        requested.ask("acme", licence_accepted=False)
    assert row().pull_state == ""
    requested.ask("acme", licence_accepted=True)
    assert row().pull_state == "asked"
