"""Signed requests, OAuth tokens, scopes and keys."""

import base64
import hashlib
import json
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.test import Client
from oauth2_provider.models import get_access_token_model, get_application_model

from generation.accounts import signatures
from generation.accounts.models import ApiKey, User
from generation.tasks.models import Task

VECTORS = Path(__file__).parent / "vectors" / "signatures.json"
GENERATE = "/api/v1/image/generate"
ClientOf = Callable[..., Client]


def signed(text: str, method: str, path: str, query: str = "", body: bytes = b"", **changes: str) -> dict[str, str]:
    """The headers of a request signed with the key `text`."""
    _, key_id, secret = text.split("_", 2)
    digest = hashlib.sha256(secret.encode()).hexdigest()
    timestamp = changes.get("timestamp", str(int(time.time())))
    nonce = changes.get("nonce", secrets.token_hex(8))
    proof = signatures.signature(digest, signatures.canonical(method, path, query, timestamp, nonce, body))
    return {"X-Key-Id": key_id, "X-Timestamp": timestamp, "X-Nonce": nonce, "X-Signature": proof}


@pytest.mark.parametrize("vector", json.loads(VECTORS.read_text()), ids=lambda vector: vector["name"])
def test_the_published_vectors(vector: dict[str, Any]) -> None:
    digest = hashlib.sha256(vector["secret"].encode()).hexdigest()
    names = ("method", "path", "query", "timestamp", "nonce")
    text = signatures.canonical(body=vector["body"].encode(), **{name: vector[name] for name in names})
    assert text.decode() == vector["canonical"]
    assert signatures.signature(digest, text) == vector["signature"]


def test_a_signed_request_is_accepted_once(owner: User) -> None:
    _, text = ApiKey.make(owner, must_sign=True)
    body = b'{"text": "a red circle"}'
    headers = signed(text, "POST", GENERATE, body=body)

    def send(data: bytes = body, path: str = GENERATE, changed: dict[str, str] | None = None) -> int:
        response = Client().post(path, data, content_type="application/json", headers={**headers, **(changed or {})})
        return response.status_code

    assert send() == 202
    assert send() == 401, "replayed"
    fresh = signed(text, "POST", GENERATE, body=body)
    headers = fresh
    assert send(b'{"text": "a blue circle"}') == 401, "another body"
    assert send(path=GENERATE + "?x=1") == 401, "another query"
    assert send(path="/api/v1/image/batch-generate") == 401, "another path"
    assert send(changed={"X-Signature": "v1=" + "0" * 64}) == 401
    assert send(changed={"X-Signature": "é"}) == 401
    assert send(changed={"X-Key-Id": "x\0"}) == 401
    assert send(changed={"X-Nonce": "short"}) == 401
    assert send() == 202, "a refused try does not use the nonce up"
    headers = signed(text, "POST", GENERATE, body=body, timestamp=str(int(time.time()) - 301))
    assert send() == 401, "too old"
    assert (
        Client().post(GENERATE, body, content_type="application/json", headers={"x-api-key": text}).status_code == 401
    )
    assert Task.objects.count() == 2


def test_the_query_is_signed_in_any_order(owner: User, key_of: Callable[..., str]) -> None:
    text = key_of(owner)
    headers = signed(text, "GET", "/api/v1/image/tasks", "text=a%20b&limit=5")
    assert Client().get("/api/v1/image/tasks?limit=5&text=a+b", headers=headers).status_code == 200


def test_scopes_limit_a_key(client_of: ClientOf, owner: User) -> None:
    reader = client_of(owner, scopes=["read"])
    assert reader.get("/api/v1/styles").status_code == 200
    response = reader.post(GENERATE, "{}", content_type="application/json")
    assert (response.status_code, "`generate`" in response.json()["message"]) == (403, True)
    assert reader.get("/api/v1/keys").status_code == 403


def test_keys_are_made_rotated_and_revoked(client_of: ClientOf, owner: User, make_user: Any) -> None:
    client = client_of(owner)

    def ask(method: str, path: str, **body: Any) -> Any:
        return client.generic(method, f"/api/v1/keys{path}", json.dumps(body), content_type="application/json")

    made = ask("POST", "", name="shop", scopes=["read"]).json()["data"]
    reader = Client(headers={"x-api-key": made["api_key"]})
    assert reader.get("/api/v1/styles").status_code == 200
    rotated = ask("POST", f"/{made['prefix']}/rotate", grace_seconds=0).json()["data"]
    assert reader.get("/api/v1/styles").status_code == 401
    follower = Client(headers={"x-api-key": rotated["api_key"]})
    assert (follower.get("/api/v1/styles").status_code, rotated["scopes"]) == (200, ["read"])
    assert ask("DELETE", f"/{rotated['prefix']}").status_code == 200
    assert follower.get("/api/v1/styles").status_code == 401
    assert ask("DELETE", "/nosuchkey").status_code == 404
    listed = client.get("/api/v1/keys")
    assert made["api_key"].split("_", 2)[2] not in listed.content.decode()
    stranger = client_of(make_user("stranger"))
    assert stranger.delete(f"/api/v1/keys/{made['prefix']}").status_code == 404


def test_a_key_grants_no_more_scopes_than_it_has(client_of: ClientOf, owner: User) -> None:
    client = client_of(owner, scopes=["keys", "read"])

    def make(**body: Any) -> Any:
        return client.post("/api/v1/keys", json.dumps(body), content_type="application/json")

    assert make(scopes=["generate"]).status_code == 403
    assert make(scopes=[]).status_code == 403, "no scopes would mean: all"
    made = make(scopes=["read"])
    assert (made.status_code, made.json()["data"]["scopes"]) == (201, ["read"])


@pytest.fixture
def application(owner: User) -> Any:
    model = get_application_model()
    return model.objects.create(
        name="Shop plugin",
        user=owner,
        client_type=model.CLIENT_CONFIDENTIAL,
        authorization_grant_type=model.GRANT_CLIENT_CREDENTIALS,
        client_secret="a client secret",
    )


def token_of(application: Any, **form: str) -> Any:
    basic = base64.b64encode(f"{application.client_id}:a client secret".encode()).decode()
    return Client().post("/oauth/token/", form, headers={"authorization": f"Basic {basic}"})


def test_client_credentials_act_for_the_applications_owner(application: Any, owner: User) -> None:
    answer = token_of(application, grant_type="client_credentials", scope="generate read")
    assert answer.status_code == 200, answer.content
    token = answer.json()["access_token"]
    client = Client(headers={"authorization": f"Bearer {token}"})
    assert client.post(GENERATE, '{"text": "x"}', content_type="application/json").status_code == 202
    task = Task.objects.get()
    assert task.api_key
    assert (task.user, task.api_key.name) == (owner, "OAuth: Shop plugin")
    assert client.get(f"/api/v1/image/task/{task.public_id}").status_code == 200
    assert client.get("/api/v1/keys").status_code == 403, "the token lacks the scope"
    stored = json.dumps(list(get_access_token_model().objects.values()), default=str)
    assert token not in stored
    ApiKey.objects.filter(oauth_client=application.client_id).update(revoked_at="2026-01-01T00:00:00Z")
    assert client.get("/api/v1/styles").status_code == 401


def test_a_wrong_token_or_secret_is_401(application: Any) -> None:
    assert Client(headers={"authorization": "Bearer nonsense"}).get("/api/v1/styles").status_code == 401
    application.client_id = "other"
    assert token_of(application, grant_type="client_credentials").status_code == 401


def test_the_authorization_code_flow_with_pkce(application: Any, make_user: Any) -> None:
    user = make_user("shopper")
    application.authorization_grant_type = application.GRANT_AUTHORIZATION_CODE
    application.redirect_uris = "https://shop.example/back"
    application.save()
    browser = Client()
    browser.force_login(user)
    verifier = secrets.token_urlsafe(48)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
    asked = {
        "response_type": "code",
        "client_id": application.client_id,
        "redirect_uri": "https://shop.example/back",
        "scope": "read",
        "state": "s",
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }
    assert Client().get("/oauth/authorize/", asked).status_code == 302, "a stranger logs in first"
    assert browser.get("/oauth/authorize/", asked).status_code == 200
    allowed = browser.post("/oauth/authorize/", {**asked, "allow": "Authorize"})
    assert allowed.status_code == 302, allowed.content
    back = parse_qs(urlsplit(allowed["Location"]).query)
    form = {"grant_type": "authorization_code", "redirect_uri": "https://shop.example/back", "code": back["code"][0]}
    assert token_of(application, **form, code_verifier="wrong" * 12).status_code == 400
    allowed = browser.post("/oauth/authorize/", {**asked, "allow": "Authorize"})
    form["code"] = parse_qs(urlsplit(allowed["Location"]).query)["code"][0]
    token = token_of(application, **form, code_verifier=verifier).json()["access_token"]
    client = Client(headers={"authorization": f"Bearer {token}"})
    assert client.get("/api/v1/image/tasks").status_code == 200
    assert ApiKey.objects.get(oauth_client=application.client_id).user == user
