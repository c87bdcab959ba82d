"""The error tree.

Every error that a user can cause carries one sentence that names the thing and says what to do.
`status` is the HTTP status a server answers with; the dialects give it their own shapes.
"""

from __future__ import annotations

from pathlib import Path


class OctavoError(Exception):
    """Base of all errors that Octavo raises on purpose."""

    status: int = 500
    kind: str = "server_error"


class InvalidRequestError(OctavoError):
    """The request cannot be served as asked; `param` names the field at fault, if one is."""

    status = 400
    kind = "invalid_request_error"

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class PromptTooLongError(InvalidRequestError):
    """The prompt (and the answer asked for) does not fit the context window.

    `counted` is False where `num_tokens` is a lower bound: a text so long that it need not be tokenized.
    """

    def __init__(self, num_tokens: int, limit: int, *, param: str | None = "messages", counted: bool = True) -> None:
        super().__init__(
            f"The prompt has {'' if counted else 'at least '}{num_tokens} tokens, but this model's maximum context "
            f"length is {limit}, including at least one token of the answer. Shorten the prompt, or start the server "
            "with a larger --max-model-len.",
            param=param,
        )
        self.num_tokens = num_tokens
        self.limit = limit
        self.counted = counted


class ChatTemplateError(InvalidRequestError):
    """The model's chat template refused these messages or failed on them."""


class UnsupportedError(InvalidRequestError):
    """Something well-formed that Octavo does not do: refused by name, never ignored."""


class AuthenticationError(OctavoError):
    """No API key, or one that is not known."""

    status = 401
    kind = "authentication_error"


class NotFoundError(OctavoError):
    """The named route, model or object does not exist."""

    status = 404
    kind = "not_found_error"


class OverloadedError(OctavoError):
    """The server cannot take the request now; trying later may work."""

    status = 503
    kind = "overloaded_error"


class EngineDeadError(OctavoError):
    """The engine process has ended; every open request ends with this error."""

    status = 503
    kind = "engine_dead_error"


class ConfigError(OctavoError):
    """An option or a combination of options is wrong. Raised before anything is loaded."""

    status = 400
    kind = "config_error"


class MemoryPlanError(ConfigError):
    """The planned weights, KV pages and scratch do not fit; the message has the numbers."""


class ModelError(OctavoError):
    """A model cannot be found, fetched or read."""

    status = 400
    kind = "model_error"


class ModelNotFoundError(ModelError):
    """No model of that name, locally or at the Hub."""

    status = 404


class ModelFormatError(ModelError):
    """A model file is damaged, or not what its name says."""

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = Path(path)
        self.reason = reason


class UnsupportedModelError(ModelError):
    """An architecture, quantization scheme or tokenizer kind that Octavo does not know; names it."""


class DownloadError(ModelError):
    """A download failed for good; what was fetched so far is kept and resumed next time."""

    status = 502
