"""A clock that can be set for every process of a performance at once, by libfaketime (Debian: package faketime)."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

WHERE = ("/usr/lib/*/faketime/libfaketimeMT.so.1", "/usr/local/lib/faketime/libfaketimeMT.so.1")


def library() -> Path | None:
    """The library, or None where it is not installed; LIBFAKETIME names another place."""
    named = os.environ.get("LIBFAKETIME")
    found = [Path(named)] if named else [path for pattern in WHERE for path in Path("/").glob(pattern[1:])]
    return next((path for path in found if path.exists()), None)


class Clock:
    """The offset in s from the machine's clock that all preloaded processes see; monotonic clocks are left alone."""

    def __init__(self, library: Path, file: Path) -> None:
        self.file = file
        self.environment = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DONT_RESET": "1",
        }

    @classmethod
    def of_this_process(cls) -> "Clock | None":
        """The clock that this process was started under."""
        if "FAKETIME_TIMESTAMP_FILE" not in os.environ:
            return None
        return cls(Path(os.environ["LD_PRELOAD"]), Path(os.environ["FAKETIME_TIMESTAMP_FILE"]))

    def set(self, seconds: float) -> None:
        draft = self.file.with_suffix(".draft")
        draft.write_text(f"{seconds:+.0f}\n")
        draft.chmod(0o644)  # the servers run as another account
        draft.replace(self.file)


def run_preloaded(arguments: list[str]) -> int:
    """Runs `python ARGUMENTS` under a clock of its own; its exit code. Without the library: a line, and 0."""
    found = library()
    if found is None:
        print("faults of the clock are left out: libfaketime is not installed (apt install faketime)")
        return 0
    with tempfile.TemporaryDirectory(prefix="imagegenx-clock-") as folder:
        Path(folder).chmod(0o711)
        clock = Clock(found, Path(folder, "clock"))
        clock.set(0)
        return subprocess.run([sys.executable, *arguments], env=os.environ | clock.environment, check=False).returncode
