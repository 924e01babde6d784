"""Errors of the engine, sorted by who is at fault.

EngineError
├── InvalidSample     the caller's: the same request will fail again, never retried
├── ModelUnavailable   ours or the deployment's: the model could not be loaded; a fallback model may serve
├── NotFinite          the model made numbers that are none (its precision overflows, a device is broken); tried again
└── RemoteModelError   a remote model refused or did not answer; `retryable` says whether to try again
"""

from __future__ import annotations


class EngineError(Exception):
    """Base of the errors below."""

    retryable = True
    code = "inference_failed"  # of the task that fails with it, where it may be tried again


class InvalidSample(EngineError, ValueError):
    """The request cannot be carried out by this model; the text says what would be right."""

    retryable = False


class ModelUnavailable(EngineError):
    """The model is not known here or could not be loaded; the text has the reason."""


class NotFinite(EngineError):
    """Latents or a picture hold NaN or infinities: as 8 bits they would be black, and a success."""

    code = "not_finite"

    def __init__(self, what: str) -> None:
        super().__init__(
            f"The model made a {what} with values that are not numbers. Lower the weights of LoRAs and words and the "
            "guidance; if it happens to every request, the model needs another precision."
        )


class RemoteModelError(EngineError):
    """A remote model answered with an error or not at all."""

    def __init__(self, message: str, *, retryable: bool) -> None:
        super().__init__(message)
        self.retryable = retryable


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether the allocator of any device gave up, here or in what caused the error."""
    while error is not None:
        if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
            return True
        if "not enough memory" in str(error):
            return True
        error = error.__cause__
    return False


def is_retryable(error: Exception) -> bool:
    """Whether the same request may succeed at another try. What we do not know might."""
    return getattr(error, "retryable", True)
