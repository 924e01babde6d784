"""What the clients do when the server, or the way to it, does harm."""

import time
from pathlib import Path

import pytest

import imagegenx
from imagegenx import AsyncClient, Client, Retries
from tests.servers import StandInServer
from tests.stand_in_api import CUT, DAMAGED

QUICK = Retries(most=3, first_wait_s=0.05)


def client_at(server: StandInServer, retries: Retries = QUICK) -> Client:
    return Client(server.url, "igx_abc_secret", retries=retries)


@pytest.mark.parametrize("fault", [503, 500, 502, (429, {"retry-after": "0"}), (409, {"retry-after": "0"}), CUT])
def test_a_submission_is_sent_again_and_makes_one_task(stand_in: StandInServer, fault: object) -> None:
    """CUT: the task is made and the answer lost."""
    stand_in.api.faults["generate"] = [fault, fault]
    with client_at(stand_in) as client:
        task = client.generate("a star")
    assert list(stand_in.api.tasks) == [task.task_id]
    keys = {headers["idempotency-key"] for _, _, headers in stand_in.api.requests}
    assert (len(stand_in.api.requests), len(keys)) == (3, 1)


def test_retry_after_is_obeyed_and_has_a_bound(stand_in: StandInServer) -> None:
    stand_in.api.faults["generate"] = [(429, {"retry-after": "1"})]
    with client_at(stand_in) as client:
        began = time.monotonic()
        client.generate("a star")
        assert time.monotonic() - began >= 1
        stand_in.api.faults["generate"] = [(429, {"retry-after": "3600"})]
        with pytest.raises(imagegenx.RateLimited) as refused:
            client.generate("a star")
    assert refused.value.retry_after == 3600


def test_tries_end(stand_in: StandInServer) -> None:
    stand_in.api.faults["generate"] = [503] * 10
    with client_at(stand_in) as client, pytest.raises(imagegenx.ServerFault):
        client.generate("a star")
    assert len(stand_in.api.requests) == 4
    gone = Client("http://127.0.0.1:9", "igx_abc_secret", retries=Retries(most=1, first_wait_s=0.01))
    with gone, pytest.raises(imagegenx.ConnectionFailed):
        gone.models()


def test_what_would_be_done_twice_is_not_sent_again(stand_in: StandInServer) -> None:
    stand_in.api.faults["retry"] = [503]
    with client_at(stand_in) as client, pytest.raises(imagegenx.ServerFault):
        client.retry("img" + "0" * 32)
    assert len(stand_in.api.requests) == 1


def test_faults_of_the_request_are_not_tried_again(stand_in: StandInServer) -> None:
    stand_in.api.faults["generate"] = [400]
    with client_at(stand_in) as client, pytest.raises(imagegenx.InvalidRequest):
        client.generate("")
    assert len(stand_in.api.requests) == 1


def test_a_page_of_a_proxy_is_no_success(stand_in: StandInServer) -> None:
    """A 200 that is no answer of the API."""
    stand_in.api.faults["generate"] = [(200, {"content-type": "text/html"})] * 2
    with client_at(stand_in) as client, pytest.raises(imagegenx.ServerFault, match=r"text/html.*is the address right"):
        client.generate("a star")


def test_a_cut_stream_is_taken_up_where_it_broke(stand_in: StandInServer) -> None:
    stand_in.api.faults["/events"] = [CUT, CUT]
    with client_at(stand_in) as client:
        seen = list(client.events(client.generate("a star")))
    assert [event.data["progress"] for event in seen if event.kind == "progress"] == [20, 40, 60, 80]
    assert [event.kind for event in seen][-2:] == ["task", "end"]
    ids = [headers.get("last-event-id") for _, path, headers in stand_in.api.requests if path.endswith("/events")]
    assert ids[0] is None
    assert "40-0" in ids


async def test_a_cut_stream_of_the_asynchronous_client(stand_in: StandInServer) -> None:
    stand_in.api.faults["/events"] = [CUT]
    async with AsyncClient(stand_in.url, "igx_abc_secret", retries=QUICK) as client:
        seen: list[imagegenx.Event] = []
        task = await client.wait(await client.generate("a star"), on_event=seen.append)
    assert task.succeeded
    assert [event.data["progress"] for event in seen if event.kind == "progress"] == [20, 40, 60, 80]


def test_a_damaged_or_cut_picture_is_fetched_again(stand_in: StandInServer, tmp_path: Path) -> None:
    stand_in.api.faults["/files/"] = [DAMAGED]
    stand_in.api.faults["/image/task/img00000000000000000000000000000000/image"] = [CUT]
    with client_at(stand_in) as client:
        task = client.generate("a star")
        [path] = client.save(task, tmp_path)
    assert path.read_bytes().startswith(b"picture of ")
    assert list(tmp_path.iterdir()) == [path]


def test_a_picture_that_stays_wrong_leaves_no_file(stand_in: StandInServer, tmp_path: Path) -> None:
    stand_in.api.faults["/files/"] = [DAMAGED]
    stand_in.api.faults["/image/task"] = [DAMAGED]
    with client_at(stand_in) as client:
        task = client.generate("a star")
        with pytest.raises(imagegenx.HashMismatch):
            client.save(task, tmp_path)
        assert list(tmp_path.iterdir()) == []
        stand_in.api.faults.update({"/files/": [DAMAGED], "/image/task": [DAMAGED]})
        with pytest.raises(imagegenx.HashMismatch):
            client.picture(task)


def test_the_key_is_not_sent_to_the_addresses_of_pictures(stand_in: StandInServer, tmp_path: Path) -> None:
    with client_at(stand_in) as client:
        client.save(client.generate("a star"), tmp_path)
    [headers] = [headers for _, path, headers in stand_in.api.requests if path.startswith("/files/")]
    assert "authorization" not in headers


def test_a_file_that_is_there_is_not_fetched_again(stand_in: StandInServer, tmp_path: Path) -> None:
    with client_at(stand_in) as client:
        task = client.generate("a star")
        [path] = client.save(task, tmp_path)
        client.save(task, tmp_path)
        path.write_bytes(b"changed")
        client.save(task, tmp_path)
    assert len([path for _, path, _ in stand_in.api.requests if path.startswith("/files/")]) == 2


def test_an_archived_picture_comes_later(stand_in: StandInServer, tmp_path: Path) -> None:
    stand_in.api.faults["/files/"] = [(202, {"retry-after": "300"})]
    with client_at(stand_in) as client, pytest.raises(imagegenx.Archived) as later:
        client.save(client.generate("a star"), tmp_path)
    assert later.value.retry_after == 300
    assert list(tmp_path.iterdir()) == []
