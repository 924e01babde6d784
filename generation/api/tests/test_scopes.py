"""Which scope each call needs: the table is written by hand, so that a view that forgets its scope is seen."""

import pytest

from generation.accounts.models import SCOPES, Plan, Role, User
from generation.api.tests.test_key_rights import KEYS, made, plans  # noqa: F401  # a fixture

CALLS = {
    "generate": [
        ("POST", "/api/v1/image/generate"),
        ("POST", "/api/v1/image/img2img"),
        ("POST", "/api/v1/image/batch-generate"),
        ("POST", "/api/v1/image/preview"),
        ("POST", "/api/v1/image/task/x/cancel"),
        ("POST", "/api/v1/image/task/x/retry"),
        ("POST", "/api/v1/image/batch/x/cancel"),
        ("POST", "/v1/images/generations"),
        ("POST", "/sdapi/v1/txt2img"),
        ("POST", "/v1/images/variations"),
        ("POST", "/api/v2/generate/async"),
        ("POST", "/prompt"),
        ("POST", "/upload/image"),
        ("POST", "/interrupt"),
        ("POST", "/queue"),
        ("POST", "/sdapi/v1/interrupt"),
        ("POST", "/sdapi/v1/options"),
    ],
    "read": [
        ("GET", "/api/v1/image/tasks"),
        ("GET", "/api/v1/image/task/x"),
        ("GET", "/api/v1/image/task/x/image"),
        ("GET", "/api/v1/image/task/x/events"),
        ("POST", "/api/v1/image/task/x/events/token"),
        ("GET", "/api/v1/image/batch/x"),
        ("GET", "/api/v1/image/batch/x/download"),
        ("POST", "/api/v1/image/download"),
        ("GET", "/api/v1/boards"),
        ("GET", "/api/v1/team"),
        ("POST", "/api/v1/image/sheet"),
        ("GET", "/api/v1/usage"),
        ("GET", "/api/v1/account"),
        ("GET", "/api/v1/lora"),
        ("GET", "/v1/models"),
        ("GET", "/history"),
        ("GET", "/queue"),
        ("GET", "/view?filename=x"),
        ("GET", "/object_info"),
        ("GET", "/api/v2/find_user"),
        ("POST", "/sdapi/v1/png-info"),
        ("GET", "/sdapi/v1/progress"),
        ("GET", "/sdapi/v1/options"),
    ],
    "sort": [
        ("POST", "/api/v1/image/marks"),
        ("POST", "/api/v1/boards"),
        ("PATCH", "/api/v1/boards/x"),
        ("DELETE", "/api/v1/boards/x"),
        ("POST", "/api/v1/boards/x/pictures"),
    ],
    "team": [
        ("PATCH", "/api/v1/team/members/x"),
        ("DELETE", "/api/v1/team/members/x"),
    ],
    "delete": [("DELETE", "/api/v1/image/task/x")],
    "lora": [
        ("POST", "/api/v1/lora/upload"),
        ("DELETE", "/api/v1/lora/x/1"),
        ("POST", "/api/v1/lora/x/1/enable"),
        ("POST", "/api/v1/lora/x/1/disable"),
    ],
    "webhooks": [
        ("GET", "/api/v1/webhooks"),
        ("POST", "/api/v1/webhooks"),
        ("PATCH", "/api/v1/webhooks/1"),
        ("DELETE", "/api/v1/webhooks/1"),
        ("POST", "/api/v1/webhooks/1/rotate"),
        ("GET", "/api/v1/webhooks/1/deliveries"),
    ],
    "keys": [
        ("GET", KEYS),
        ("POST", KEYS),
        ("DELETE", f"{KEYS}/x"),
        ("POST", f"{KEYS}/x/rotate"),
    ],
}


@pytest.mark.parametrize("scope", CALLS)
def test_a_call_needs_its_scope_and_no_other(owner: User, plans: dict[str, Plan], scope: str) -> None:  # noqa: F811
    owner.role = Role.OWNER
    owner.save()
    _, all_but_this = made(owner, scopes=[name for name in SCOPES if name != scope])
    _, only_this = made(owner, scopes=[scope])
    for method, path in CALLS[scope]:
        assert all_but_this.send(method, path).status_code == 403, (method, path)
        assert only_this.send(method, path).status_code not in (401, 403), (method, path)
        if method == "GET":
            assert all_but_this.send("HEAD", path).status_code in (403, 405), ("HEAD", path)
            assert only_this.send("HEAD", path).status_code not in (401, 403), ("HEAD", path)
