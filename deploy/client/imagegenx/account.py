"""Where the server is, and with which key: arguments, environment, or the file that `imagegenx login` writes."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from imagegenx.errors import NotConfigured

URL, KEY = "IMAGEGENX_URL", "IMAGEGENX_KEY"


@dataclass(frozen=True)
class Account:
    """`url` has no slash at its end."""

    url: str
    key: str = field(repr=False)

    @property
    def key_id(self) -> str:
        """The part of the key that names it, which is no secret."""
        parts = self.key.split("_")
        return parts[1] if len(parts) > 2 else ""


def find_account(url: str | None = None, key: str | None = None) -> Account:
    """Arguments before environment before file. A key of the file goes only to the address of the file. Raises
    NotConfigured.
    """
    saved = read_account()
    url = (url or os.environ.get(URL) or (saved.url if saved else "")).rstrip("/")
    key = key or os.environ.get(KEY)
    if not key and saved and saved.url == url:
        key = saved.key
    if not url or not key:
        missing = " and ".join(name for name, value in ((URL, url), (KEY, key)) if not value)
        raise NotConfigured(f"No server or no key: set {missing}, or run `imagegenx login`.")
    if not url.startswith(("http://", "https://")):
        raise NotConfigured(f"{url!r} is no address of a server: it begins with http:// or https://.")
    return Account(url, key.strip())


def account_file() -> Path:
    """Below XDG_CONFIG_HOME; %APPDATA% on Windows."""
    base = os.environ.get("XDG_CONFIG_HOME") or (os.environ.get("APPDATA") if os.name == "nt" else None)
    return (Path(base) if base else Path.home() / ".config") / "imagegenx" / "account.json"


def read_account() -> Account | None:
    """The account of the file; None without one. Raises NotConfigured for a file that can't be read."""
    path = account_file()
    try:
        body = json.loads(path.read_text("utf-8"))
        return Account(str(body["url"]).rstrip("/"), str(body["key"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NotConfigured(f"{path} can't be read ({error}): run `imagegenx login` again.") from error


def write_account(account: Account) -> Path:
    """Only its owner may read the file; it is never half there."""
    path = account_file()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump({"url": account.url, "key": account.key}, file)
    os.replace(part, path)
    return path


def delete_account() -> bool:
    """Whether there was a file."""
    path = account_file()
    found = path.exists()
    path.unlink(missing_ok=True)
    return found
