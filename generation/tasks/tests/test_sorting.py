"""Marks, boards and contact sheets over the API: what is found again, who may, and what a sheet shows."""

import io
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from PIL import Image as Pillow

from fixtures.rows import finish, picture_bytes
from generation.accounts.models import Plan, Role, Team, User
from generation.api.sorting import sheet as sheet_view
from generation.tasks import delete
from generation.tasks.models import Board, BoardPicture, Image, Task
from generation.tasks.sorting import boards, sheet
from generation.tasks.sorting.sheet import Tile
from imagegenx_site.ids import uuid7
from workers.housekeeping import retention


@pytest.fixture
def client(owner: User, client_of: Callable[..., Client]) -> Client:
    return client_of(owner)


@pytest.fixture
def tasks(make_task: Callable[..., Task]) -> list[Task]:
    return [finish(make_task(text=f"picture {number} 一只小熊"), count=2) for number in range(3)]


def send(client: Client, path: str, method: str = "post", **body: Any) -> Any:
    return getattr(client, method)(f"/api/v1/{path}", body, content_type="application/json")


def named(*pictures: tuple[Task, int]) -> list[dict[str, Any]]:
    return [{"task_id": task.public_id, "index": index} for task, index in pictures]


def listed(client: Client, **filters: str) -> list[tuple[str, list[int]]]:
    """Prompts and the numbers of the pictures that a history answers, the oldest first."""
    items = client.get("/api/v1/image/tasks", filters).json()["data"]["items"]
    found = [(one["input"]["text"], [output["index"] for output in one["outputs"]]) for one in items]
    return [(text.split(" 一")[0], numbers) for text, numbers in reversed(found)]


def test_marked_pictures_are_found_again(client: Client, tasks: list[Task]) -> None:
    first, second, _ = tasks
    before = client.get(f"/api/v1/image/task/{first.public_id}")
    approved = named((first, 0), (second, 1), (second, 1))
    assert send(client, "image/marks", pictures=approved, mark="approved").json()["data"] == {"changed": 2}
    assert send(client, "image/marks", pictures=approved, mark="approved").json()["data"] == {"changed": 0}
    send(client, "image/marks", pictures=named((first, 1)), mark="rejected")
    assert listed(client, mark="approved") == [("picture 0", [0]), ("picture 1", [1])]
    assert listed(client, mark="rejected") == [("picture 0", [1])]
    assert listed(client, mark="unmarked") == [("picture 1", [0]), ("picture 2", [0, 1])]
    after = client.get(f"/api/v1/image/task/{first.public_id}")
    assert [output["mark"] for output in after.json()["data"]["outputs"]] == ["approved", "rejected"]
    assert before["ETag"] != after["ETag"]
    send(client, "image/marks", pictures=approved, mark=None)
    assert listed(client, mark="approved") == []


def test_a_mark_outlives_the_enlargement_of_its_picture(client: Client, tasks: list[Task]) -> None:
    from imagegenx_site.row_statements import insert
    from workers.stages.images import _OF_THE_FILE

    send(client, "image/marks", pictures=named((tasks[0], 0)), mark="approved")
    row = tasks[0].image_rows.get(index=0)
    insert([Image(**{field.attname: getattr(row, field.attname) for field in Image._meta.fields if field.name != "mark"}
                  | {"width": 512})], replacing=_OF_THE_FILE)  # fmt: skip
    row.refresh_from_db()
    assert (row.width, row.mark) == (512, "approved")


def test_nothing_is_marked_when_one_picture_is_not_there(client: Client, tasks: list[Task], make_user: Any) -> None:
    for missing in (named((tasks[0], 0), (tasks[0], 2)), [{"task_id": f"img{tasks[0].id.hex[:-1]}0", "index": 7}]):
        assert send(client, "image/marks", pictures=missing, mark="approved").status_code == 404
    assert send(client, "image/marks", pictures=[], mark="approved").status_code == 400
    assert send(client, "image/marks", pictures=named((tasks[0], 0)), mark="nice").status_code == 400
    assert not Image.objects.exclude(mark="").exists()


def test_a_board_holds_pictures_and_outlives_none_of_them(client: Client, tasks: list[Task]) -> None:
    board = send(client, "boards", name="Spring").json()["data"]
    assert (board["name"], board["shared"], board["pictures"], board["user"]) == ("Spring", False, 0, "owner")
    path = f"boards/{board['board_id']}/pictures"
    put = named((tasks[0], 1), (tasks[2], 0), (tasks[2], 1))
    assert send(client, path, add=put).json()["data"] == {"added": 3, "removed": 0}
    assert send(client, path, add=put[:1], remove=put[1:2]).json()["data"] == {"added": 0, "removed": 1}
    assert listed(client, board_id=board["board_id"]) == [("picture 0", [1]), ("picture 2", [1])]
    send(client, "image/marks", pictures=named((tasks[2], 1)), mark="approved")
    assert listed(client, board_id=board["board_id"], mark="approved") == [("picture 2", [1])]
    delete.delete_task(tasks[2])
    assert client.get("/api/v1/boards").json()["data"]["items"][0]["pictures"] == 1
    renamed = send(client, f"boards/{board['board_id']}", "patch", name="Summer", shared=True).json()["data"]
    assert (renamed["name"], renamed["shared"]) == ("Summer", True)
    assert client.delete(f"/api/v1/boards/{board['board_id']}").status_code == 200
    assert not BoardPicture.objects.exists()
    assert listed(client)[0][0] == "picture 0"
    assert send(client, path, add=put[:1]).status_code == 404
    assert client.get("/api/v1/image/tasks", {"board_id": board["board_id"]}).status_code == 404


def test_boards_are_bounded_and_end_with_their_days(
    client: Client, owner: User, tasks: list[Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boards, "MOST_BOARDS", 1)
    monkeypatch.setattr(boards, "MOST_PICTURES", 2)
    board = send(client, "boards", name="one").json()["data"]["board_id"]
    assert send(client, "boards", name="two").status_code == 409
    both = named((tasks[0], 0), (tasks[0], 1))
    assert send(client, f"boards/{board}/pictures", add=both).status_code == 200
    assert send(client, f"boards/{board}/pictures", add=named((tasks[1], 0))).status_code == 409
    assert send(client, f"boards/{board}/pictures").status_code == 400
    old = uuid7(int((tasks[0].created_at - timedelta(days=3)).timestamp() * 1000))
    BoardPicture.objects.filter(index=1).update(task_id=old)
    retention.end_before(tasks[0].created_at.date() - timedelta(days=1))
    assert [row.index for row in BoardPicture.objects.all()] == [0]


def test_a_team_shares_boards_and_its_viewers_only_look(
    client: Client, client_of: Callable[..., Client], make_user: Callable[..., User], tasks: list[Task]
) -> None:
    viewer = make_user("viewer", team="shop")
    viewer.role = Role.VIEWER
    viewer.save()
    mate, stranger, looking = (
        client_of(make_user("mate", team="shop")), client_of(make_user("stranger")), client_of(viewer),
    )  # fmt: skip
    own = send(client, "boards", name="mine").json()["data"]["board_id"]
    shared = send(client, "boards", name="ours", shared=True).json()["data"]["board_id"]
    picture = named((tasks[0], 0))
    assert [one["name"] for one in mate.get("/api/v1/boards").json()["data"]["items"]] == ["ours"]
    assert stranger.get("/api/v1/boards").json()["data"]["items"] == []
    assert send(mate, f"boards/{shared}/pictures", add=picture).status_code == 200
    assert send(mate, f"boards/{shared}", "patch", name="his").status_code == 403
    assert mate.delete(f"/api/v1/boards/{shared}").status_code == 403
    assert [send(who, f"boards/{own}/pictures", add=picture).status_code for who in (mate, stranger)] == [404, 404]
    assert send(stranger, f"boards/{shared}/pictures", add=picture).status_code == 404
    assert [listed(who, board_id=shared) for who in (mate, looking)] == [[("picture 0", [0])]] * 2
    assert looking.get(f"/api/v1/image/task/{tasks[0].public_id}").status_code == 200
    assert send(looking, "image/marks", pictures=picture, mark="approved").status_code == 403
    assert send(looking, "image/sheet", pictures=picture).status_code == 200
    assert [send(looking, path, **body).status_code for path, body in (
        ("image/generate", {"text": "x"}), ("boards", {"name": "x"}), (f"boards/{shared}/pictures", {"add": picture}),
        ("keys", {"name": "x"}))] == [403] * 4  # fmt: skip
    assert looking.delete(f"/api/v1/image/task/{tasks[0].public_id}").status_code == 403
    assert looking.get("/api/v1/account").json()["data"]["scopes"] == ["read"]
    assert send(stranger, "image/marks", pictures=picture, mark="approved").status_code == 404
    assert send(stranger, "image/sheet", pictures=picture).status_code == 404
    assert send(mate, "image/marks", pictures=picture, mark="approved").status_code == 200
    Team.objects.create(name="other", plan=viewer.team.plan)  # type: ignore[union-attr]
    User.objects.get(username="mate").delete()
    assert Board.objects.count() == 2


def opened(answer: Any) -> Pillow.Image:
    assert answer.status_code == 200, answer.content
    return Pillow.open(io.BytesIO(answer.content))


def test_a_contact_sheet_shows_every_picture(client: Client, tasks: list[Task]) -> None:
    wanted = named(*[(task, index) for task in tasks for index in range(2)])
    answer = send(client, "image/sheet", pictures=wanted, columns=3)
    picture = opened(answer)
    wide = 3 * (sheet.TILE + sheet.GAP) + sheet.GAP
    assert (picture.format, picture.width) == ("WEBP", wide)
    assert 'filename="contact-sheet.webp"' in answer["Content-Disposition"]
    for column in range(3):
        red = picture.convert("RGB").getpixel((sheet.GAP + 128 + column * (sheet.TILE + sheet.GAP), sheet.GAP + 128))
        assert red[0] > 200 > 100 > red[1]  # type: ignore[index]
    plain = opened(send(client, "image/sheet", pictures=wanted, columns=3, captions=False))
    assert picture.height > plain.height == 2 * (sheet.TILE + sheet.GAP) + sheet.GAP
    caption = picture.convert("L").crop((sheet.GAP, sheet.GAP + sheet.TILE, wide, sheet.GAP + sheet.TILE + 40))
    assert min(caption.tobytes()) < 80, "there are letters"
    pdf = send(client, "image/sheet", pictures=wanted, format="pdf")
    assert pdf["Content-Type"] == "application/pdf"
    assert pdf.content.startswith(b"%PDF")
    assert pdf.content.count(b"/Type /Page\n") + pdf.content.count(b"/Type /Page ") >= 1


def test_a_sheet_that_is_too_high_for_its_format_needs_more_columns(client: Client, tasks: list[Task]) -> None:
    for captions in (True, False):
        for count in (51, 52, 60, 61):
            least = sheet.least_columns(count, captions=captions)
            tiles = [Tile(lambda: picture_bytes((8, 8)))] * count
            assert sheet.as_webp(tiles, least, captions=captions)
            assert sheet.as_webp(tiles, captions=captions)
    assert (sheet.least_columns(51), sheet.least_columns(52), sheet.least_columns(200)) == (1, 2, 4)


def test_a_sheet_of_one_long_column_is_refused(client: Client, make_task: Callable[..., Task]) -> None:
    Plan.objects.update(max_images=4)
    wanted = named(*[(finish(make_task()), 0) for _ in range(52)])
    refused = send(client, "image/sheet", pictures=wanted, columns=1)
    assert (refused.status_code, refused.json()["data"]["errors"][0]["field"]) == (400, "columns")
    assert "at least 2 columns" in refused.json()["data"]["errors"][0]["message"]
    assert send(client, "image/sheet", pictures=wanted, columns=1, format="pdf").status_code == 200


@pytest.mark.parametrize(("method", "path", "body"), [("patch", "", {"name": "b"}), ("post", "/pictures", {"add": []})])
def test_a_board_that_is_deleted_meanwhile_is_not_there(
    client: Client, tasks: list[Task], monkeypatch: pytest.MonkeyPatch, method: str, path: str, body: dict[str, Any]
) -> None:
    board = send(client, "boards", name="a").json()["data"]["board_id"]
    if method == "post":
        body = {"add": named((tasks[0], 0))}
    found = boards.find

    def found_and_deleted(*asked: Any) -> Board:
        row = found(*asked)
        Board.objects.filter(pk=row.pk).delete()
        return row

    monkeypatch.setattr(boards, "find", found_and_deleted)
    assert send(client, f"boards/{board}{path}", method, **body).status_code == 404


def test_a_sheet_is_within_the_plan(client: Client, tasks: list[Task], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheet_view, "MOST_PICTURES", 1)
    wanted = named((tasks[0], 0), (tasks[0], 1))
    refused = send(client, "image/sheet", pictures=wanted)
    assert (refused.status_code, refused.json()["data"]["errors"][0]["code"]) == (400, "above_plan")
    assert send(client, "image/sheet", pictures=wanted[:1], columns=99).status_code == 400
    with sheet_view._making.hold((f"user {tasks[0].user_id}", 1)):
        assert send(client, "image/sheet", pictures=wanted[:1]).status_code == 429
    with sheet_view._making.hold(("all", 2)), sheet_view._making.hold(("all", 2)):
        assert send(client, "image/sheet", pictures=wanted[:1]).status_code == 503


def test_a_large_sheet_takes_no_long_time_and_fits_the_format() -> None:
    made = io.BytesIO()
    Pillow.new("RGB", (256, 192), "teal").save(made, "WEBP")
    tiles = [Tile(made.getvalue, "a long caption with many words " * 40) for _ in range(sheet_view.MOST_PICTURES)]
    picture = Pillow.open(io.BytesIO(sheet.as_webp(tiles)))
    assert max(picture.size) < 16383
    assert 0.5 < picture.width / picture.height < 2
    narrow = Pillow.open(io.BytesIO(sheet.as_webp(tiles[:3], 1)))
    assert narrow.width == sheet.TILE + 2 * sheet.GAP
