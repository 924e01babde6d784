"""Files of a hub, or of an address, onto this disk: resumed where they were cut off, several at once, verified.

`HF_ENDPOINT` names a mirror and `HF_TOKEN` a person, as everywhere. `HF_HUB_OFFLINE` keeps workers from fetching; this
is asked to fetch, so it does not count here.
"""

import fnmatch
import hashlib
import logging
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
from django.conf import settings

PARALLEL: Final = 4  # files at once
TRIES: Final = 6  # of one file, after which the pull ends; what has come stays for the next
LONGEST_WAIT_S: Final = 300.0  # between two tries, whatever the server asks for
_CHUNK: Final = 1 << 20
_MOST_NAMED: Final = 30  # of a repository's files, in an error

Progress = Callable[[str, int, int], None]
"""File, bytes that are here, bytes of the whole file. Called from several threads."""


class PullError(Exception):
    """The files could not be fetched; the text says what to do."""


@dataclass(frozen=True)
class RemoteFile:
    """`sha256` of a large file, `blob` (git's SHA-1) of a small one; none of an address."""

    name: str
    size: int
    sha256: str = ""
    blob: str = ""

    def agrees(self, path: Path) -> bool:
        """Whether a file on this disk has its content, as far as that is known."""
        if not path.is_file() or (self.size and path.stat().st_size != self.size):
            return False
        if self.sha256:
            return digest_of(path) == self.sha256
        return not self.blob or _git_blob(path) == self.blob


@dataclass(frozen=True)
class Listing:
    """Files at one revision, which is exact: a commit. Empty for an address."""

    revision: str
    files: tuple[RemoteFile, ...]

    @property
    def bytes(self) -> int:
        return sum(file.size for file in self.files)


def digest_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _git_blob(path: Path) -> str:
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    digest.update(path.read_bytes())
    return digest.hexdigest()


def listing(repository: str, revision: str, patterns: Sequence[str], hashes: Mapping[str, str]) -> Listing:
    """What would be fetched. `hashes`: SHA-256 that are known beforehand and must be the hub's. `patterns` without a
    `*` must be there; the others may match nothing. Raises PullError, before anything is fetched.
    """
    if "://" in repository:
        return Listing("", tuple(_at_address(repository, name, hashes) for name in patterns))
    info = _asked(lambda: _api().model_info(repository, revision=revision or None, files_metadata=True), repository)
    files = []
    for entry in info.siblings:
        if patterns and not any(fnmatch.fnmatchcase(entry.rfilename, pattern) for pattern in patterns):
            continue
        _check_inside(repository, entry.rfilename)
        sha256 = entry.lfs.sha256 if entry.lfs else ""
        if hashes.get(entry.rfilename, sha256) != sha256:
            raise PullError(f"{repository}: {entry.rfilename} on this hub is not the file that the preset names.")
        files.append(RemoteFile(entry.rfilename, entry.size or 0, sha256, "" if entry.lfs else entry.blob_id or ""))
    there = {file.name for file in files}
    missing = [pattern for pattern in patterns if "*" not in pattern and pattern not in there]
    if missing or not files:
        message = f"{repository} has no {', '.join(missing or patterns)} at {revision or 'its newest revision'}."
        raise PullError(message + _what_it_has(info.siblings))
    return Listing(info.sha, tuple(files))


def _what_it_has(siblings: Sequence[Any]) -> str:
    """For whoever mends the preset's list."""
    names = sorted(entry.rfilename for entry in siblings if entry.rfilename.endswith((".safetensors", ".json")))
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return f" Its files: {', '.join(names[:_MOST_NAMED])}{more}. Mend the preset's list in the admin." if names else ""


def _check_inside(repository: str, name: str) -> None:
    """Raises PullError for a name that leads out of the folder that files are fetched into."""
    if not name or ".." in Path(name).parts or Path(name).is_absolute():
        raise PullError(f"{repository} has a file outside of itself: {name!a}.")


def _at_address(address: str, name: str, hashes: Mapping[str, str]) -> RemoteFile:
    _check_inside(address, name)
    if name not in hashes:
        raise PullError(f"{name} comes from an address that states no hash, and the preset names none.")
    return RemoteFile(name, 0, hashes[name])


def fetch(repository: str, wanted: Listing, folder: Path, progress: Progress) -> None:
    """Bring the files into a folder, which may hold parts of an earlier attempt. Raises PullError; what has come
    stays, but a file with another content than it should have is deleted."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in wanted.files:
        progress(file.name, 0, file.size)

    def one(file: RemoteFile) -> None:
        path = folder / file.name
        if not file.agrees(path):
            _download(repository, wanted.revision, file, folder, progress)
        if not file.agrees(path):
            path.unlink(missing_ok=True)
            raise PullError(
                f"{file.name} arrived with another content than the hub announces. Pull again, or elsewhere."
            )
        progress(file.name, path.stat().st_size, path.stat().st_size)

    with ThreadPoolExecutor(PARALLEL, thread_name_prefix="pull") as threads:
        runs = [threads.submit(one, file) for file in wanted.files]
        try:
            for run in runs:
                run.result()
        except BaseException:
            threads.shutdown(wait=True, cancel_futures=True)
            raise


def _download(repository: str, revision: str, file: RemoteFile, folder: Path, progress: Progress) -> None:
    if "://" in repository:
        _asked(lambda: _from_address(repository + file.name, folder / file.name, progress), file.name)
        return
    _online()
    from huggingface_hub import hf_hub_download

    bar = _bar_for(file, progress)
    _asked(
        lambda: hf_hub_download(
            repository, file.name, revision=revision, local_dir=folder, tqdm_class=bar, token=_token(),
            endpoint=settings.HF_ENDPOINT or None, library_name="imagegenx",
        ),
        f"{repository}: {file.name}",
    )  # fmt: skip


def _from_address(address: str, path: Path, progress: Progress) -> None:
    """Append to what has come. Raises httpx.HTTPError, OSError."""
    part = path.with_name(path.name + ".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    there = part.stat().st_size if part.exists() else 0
    headers = {"Range": f"bytes={there}-"} if there else {}
    with httpx.stream("GET", address, headers=headers, follow_redirects=True, timeout=60) as answer:
        if answer.status_code != 416:  # all of it was here
            answer.raise_for_status()
            there = there if answer.status_code == 206 else 0
            total = there + int(answer.headers.get("content-length", 0))
            with part.open("ab" if there else "wb") as file:
                for chunk in answer.iter_bytes(_CHUNK):
                    file.write(chunk)
                    there += len(chunk)
                    progress(path.name, there, total)
    part.rename(path)


def _asked(ask: Callable[[], Any], what: str) -> Any:
    """The answer, after as many tries as it takes and TRIES allow. Raises PullError."""
    for attempt in range(1, TRIES + 1):
        try:
            return ask()
        except Exception as error:  # the hub's client raises its own, httpx's and OSError
            status, retry_after = _status_of(error)
            if status in (401, 403):
                raise PullError(
                    f"{what}: the hub does not let us in (HTTP {status}). Agree to the licence on its page with your "
                    "account there, and give a token of that account: HF_TOKEN=hf_... make models ARGS='pull ...'"
                ) from error
            if status == 404 or (status is not None and status < 500 and status not in (408, 429)):
                raise PullError(f"{what}: the hub does not have it (HTTP {status}).") from error
            if isinstance(error, OSError) and error.errno == 28:
                raise PullError(
                    f"{what}: the disk is full. Free some space and pull again: it goes on here."
                ) from error
            if attempt == TRIES:
                raise PullError(f"{what}: {_line(error)}. Pull again: what has come is kept.") from error
            time.sleep(min(retry_after if retry_after is not None else 2.0**attempt / 4, LONGEST_WAIT_S))
    raise AssertionError("a try either answers or raises")


def _status_of(error: BaseException) -> tuple[int | None, float | None]:
    """HTTP status and the seconds that the server asks us to wait, of an error or of what caused it."""
    seen: BaseException | None = error
    while seen is not None:
        answer = getattr(seen, "response", None)
        if answer is not None:
            wait = answer.headers.get("retry-after", "")
            return answer.status_code, float(wait) if wait.isdigit() else None
        seen = seen.__cause__ or seen.__context__
    return None, None


def _line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).strip().split("\n")[0][:300].rstrip(".")


def _api() -> Any:
    _online()
    from huggingface_hub import HfApi

    return HfApi(endpoint=settings.HF_ENDPOINT or None, token=_token(), library_name="imagegenx")


def _token() -> str | None:
    """None: the client looks for that of `hf auth login`."""
    return settings.HF_TOKEN or None


def _online() -> None:
    """For this process the hub may be asked. Without a home that can be written its client keeps its notes in /tmp."""
    if not os.access(Path.home(), os.W_OK):
        os.environ.setdefault("HF_HOME", str(Path(tempfile.gettempdir(), "huggingface")))
    from huggingface_hub import constants

    constants.HF_HUB_OFFLINE = False
    for name in ("httpx", "httpx2"):  # a line for each request else
        logging.getLogger(name).setLevel(logging.WARNING)
    constants.HF_HUB_DISABLE_TELEMETRY = True


def _bar_for(file: RemoteFile, progress: Progress) -> type:
    """What the hub's client takes for a progress bar."""
    from tqdm import tqdm

    class Bar(tqdm):
        def __init__(self, *args: Any, **settings: Any) -> None:
            settings.pop("name", None)
            super().__init__(*args, **{**settings, "disable": True})
            self._here = int(settings.get("initial") or 0)

        def update(self, n: float | None = 1) -> None:
            self._here += int(n or 0)
            progress(file.name, self._here, file.size)

    return Bar
