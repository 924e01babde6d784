"""Leases of jobs: one holder, whatever connection it comes by."""

import pytest

from generation.telemetry import job_leases
from generation.telemetry.job_leases import JobLease


@pytest.fixture(autouse=True)
def rows(db: None) -> None:
    """All of these share one connection, as the clients of a pooler do."""


def test_one_owner_holds_a_job_though_all_share_a_connection() -> None:
    assert job_leases.take("job", "a", 60)
    assert not job_leases.take("job", "b", 60)
    assert job_leases.take("job", "a", 60)
    assert job_leases.take("other", "b", 60)


def test_a_lease_that_ran_out_goes_to_the_next_and_not_back() -> None:
    assert job_leases.take("job", "a", -1)
    assert job_leases.take("job", "b", 60)
    assert not job_leases.take("job", "a", 60)


def test_only_the_owner_gives_it_back() -> None:
    assert job_leases.take("job", "a", 60)
    job_leases.release("job", "b")
    assert JobLease.objects.get().owner == "a"
    job_leases.release("job", "a")
    assert job_leases.take("job", "b", 60)
