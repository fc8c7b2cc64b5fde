"""Every error a user can meet, as one tree.

    SleeptimeError
    ├── InputError                     what was given cannot be used
    │   ├── NotTextError · EmptyContextError · InputTooLargeError
    │   ├── ContextNotFoundError · VersionNotFoundError · NothingLearnedError · NameTakenError
    │   ├── ContextTooLongError        told before any token is spent
    │   ├── JobNotFoundError · KeyNotFoundError · TenantNameError · MissingExtraError
    │   ├── RepositoryError            GitNotFoundError · GitFailedError · CommitNotFoundError
    │   │                              PathRefusedError · PatternRefusedError · EditRefusedError · NoRepositoryError
    │   └── PromptError · PriceCardError · BudgetError · SettingsError
    ├── ModelError                     a model could not be reached or understood
    │   ├── ModelNotChosenError · UnknownModelError · MissingKeyError · NotSupportedError
    │   ├── AuthenticationError · EndpointUnreachableError
    │   ├── RateLimitedError · UpstreamError · ShareUsedUpError    worth another attempt (`retryable`)
    │   └── RequestRejectedError · MalformedReplyError · NothingReadableError
    └── StoreError                     the database could not be read or written
        ├── DatabaseCorruptError · DatabaseFullError · DatabaseBusyError
        └── ContextBusyError · LeaseLostError · HandedBackError

Each says in one line what happened and what to do next, and carries its facts.
Reaching a budget is an outcome (`stop_reason`), never an error: `CapReached` tells a worker, and no user meets it.
"""

from __future__ import annotations


class SleeptimeError(Exception):
    """Base of all errors raised on purpose."""


class InputError(SleeptimeError):
    """What was given cannot be used as it is."""


class NotTextError(InputError):
    """The input is not UTF-8 text."""

    def __init__(self, source: str) -> None:
        super().__init__(f"{source} is not UTF-8 text. Convert it to text first (for a PDF: `pdftotext FILE -`).")
        self.source = source


class EmptyContextError(InputError):
    """The context holds nothing but white space."""

    def __init__(self, source: str) -> None:
        super().__init__(f"{source} is empty: a context needs text to think about.")
        self.source = source


class InputTooLargeError(InputError):
    """The input exceeds the size limit of one context."""

    def __init__(self, source: str, *, size_bytes: int | None, limit_bytes: int) -> None:
        size = "larger" if size_bytes is None else f"{size_bytes / 1e6:.1f} MB"
        super().__init__(
            f"{source} is {size}; one context may have {limit_bytes / 1e6:.1f} MB. Split it and add the parts."
        )
        self.source, self.size_bytes, self.limit_bytes = source, size_bytes, limit_bytes


class ContextNotFoundError(InputError):
    """No context has this name or id."""

    def __init__(self, name: str) -> None:
        super().__init__(f"No context {name!r}. `sleeptime list` shows what is stored.")
        self.name = name


class NameTakenError(InputError):
    """Another context already has this name."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"A context named {name!r} with other text exists already. "
            f"Choose another --name, or give it the new text with `sleeptime update {name}`."
        )
        self.name = name


class VersionNotFoundError(InputError):
    """The context has no such version."""

    def __init__(self, name: str, version: int) -> None:
        super().__init__(f"{name!r} has no version {version}. `sleeptime show {name}` tells the newest.")
        self.name, self.version = name, version


class NoteNotFoundError(InputError):
    """The newest version has no note with this id."""

    def __init__(self, context: str, note_id: str) -> None:
        super().__init__(
            f"The newest version of {context!r} has no note {note_id!r}. `sleeptime show {context}` shows its notes."
        )
        self.context = context
        self.note_id = note_id


class NothingLearnedError(InputError):
    """The answer should see a learned context, and there is none."""

    def __init__(self, name: str, *, is_stale: bool = False) -> None:
        what = (
            f"All that was learned about {name!r} is stale since its text was edited."
            if is_stale
            else f"Nothing has been learned about {name!r} yet."
        )
        super().__init__(f"{what} Run `sleeptime sleep {name}` first, or ask with `--sees context`.")
        self.name, self.is_stale = name, is_stale


class ContextTooLongError(InputError):
    """The prompt does not fit the model's window."""

    def __init__(self, *, model: str, tokens: int, reserve: int, window: int, exact: bool) -> None:
        about = "" if exact else "about "
        super().__init__(
            f"The prompt has {about}{tokens:,} tokens and needs {reserve:,} more for the reply, but the window of "
            f"{model} is {window:,}. Nothing was spent. Use a model with a larger window, or split the context."
        )
        self.model, self.tokens, self.reserve, self.window = model, tokens, reserve, window


class PromptError(InputError):
    """A prompt file is not well formed."""


class PriceCardError(InputError):
    """A price card is not well formed."""


class BudgetError(InputError):
    """A budget cannot be read, or cannot be applied."""


class SettingsError(InputError):
    """The settings cannot be read."""


class JobNotFoundError(InputError):
    """No job has this id, or it is in no state for what was asked."""

    def __init__(self, job_id: str, why: str = "") -> None:
        super().__init__(f"{why or f'No job {job_id!r}.'} `sleeptime jobs` shows what there is.")
        self.job_id, self.is_known = job_id, bool(why)


class KeyNotFoundError(InputError):
    """No API key has this id."""

    def __init__(self, key_id: str) -> None:
        super().__init__(f"No key {key_id!r}. `sleeptime keys list` shows what there is.")
        self.key_id = key_id


class TenantNameError(InputError):
    """The name cannot stand for a tenant."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name!r} cannot name a tenant: up to 40 small letters, digits, - and _, beginning with a letter or digit."
        )
        self.name = name


class MissingExtraError(InputError):
    """A part was asked for that is installed only on request."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs more packages: pip install 'sleeptime[{extra}]'.")
        self.extra = extra


class RepositoryError(InputError):
    """A repository, or something asked of it, cannot be used."""


class NoRepositoryError(RepositoryError):
    """What only a repository can do was asked of a context that is of none."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(
            f"{name!r} is not of a repository that can be looked at: {why}. `sleeptime add path/to/repo` makes one."
        )
        self.name = name


class GitNotFoundError(RepositoryError):
    """There is no git program."""

    def __init__(self) -> None:
        super().__init__(
            "No program `git` was found, and a repository is read through it. Install git and see that it is in PATH, "
            "or add the folder as plain text with `--as folder`."
        )


class GitFailedError(RepositoryError):
    """The git program failed, or ran past its limits."""

    def __init__(self, command: str, why: str) -> None:
        super().__init__(f"`git {command}` failed: {why or 'it gave no reason'}. `git fsck` checks a repository.")
        self.command, self.why = command, why


class CommitNotFoundError(RepositoryError):
    """The repository has no such commit."""

    def __init__(self, repository: str, commit: str) -> None:
        why = "no commit yet: commit something first" if commit == "HEAD" else f"no commit {commit!r}"
        super().__init__(f"The repository {repository} has {why}. `git log` shows what there is.")
        self.repository, self.commit = repository, commit


class PathRefusedError(RepositoryError):
    """A path leads nowhere, out of the tree, or to what is not to be read."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"{path!r} cannot be read: {why}.")
        self.path, self.why = path, why


class PatternRefusedError(RepositoryError):
    """A pattern to search for is too long, too costly, or no pattern."""

    def __init__(self, pattern: str, why: str) -> None:
        super().__init__(f"The pattern {pattern[:80]!r} cannot be searched for: {why}.")
        self.pattern, self.why = pattern, why


class EditRefusedError(RepositoryError):
    """An edit would lead out of the tree, or does not fit what stands there."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"{path[:240]!r} was not changed: {why}.")
        self.path, self.why = path, why


class CapReached(Exception):  # noqa: N818  # an outcome, and no error
    """A cap over all sleeps leaves nothing for the next call."""


class ModelError(SleeptimeError):
    """A model could not be reached, or its reply not understood."""

    retryable = False
    retry_after_s: float | None = None


class ModelNotChosenError(ModelError):
    """No model was named."""

    def __init__(self) -> None:
        super().__init__(
            "No model was chosen. Give --model provider:model or set SLEEPTIME_MODEL: openai:gpt-5-mini, anthropic:…, "
            "URL#model (http://127.0.0.1:8000/v1#name), gguf:/path/file.gguf, or tiny (which knows only the demo)."
        )


class UnknownModelError(ModelError):
    """The model's name leads nowhere."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(
            f"Unknown model {name!r}: {why}. Write provider:model (openai:gpt-5-mini, anthropic:…), "
            "URL#model (http://127.0.0.1:8000/v1#name), gguf:/path/file.gguf, or tiny."
        )
        self.name = name


class MissingKeyError(ModelError):
    """The provider needs a key that is not in the environment."""

    def __init__(self, model: str, variable: str) -> None:
        super().__init__(f"{model} needs a key: set {variable} in the environment.")
        self.model, self.variable = model, variable


class NotSupportedError(ModelError):
    """The model cannot do what was asked of it."""

    def __init__(self, model: str, ability: str, instead: str = "") -> None:
        super().__init__(f"{model} cannot give {ability}." + (f" {instead}" if instead else ""))
        self.model, self.ability = model, ability


class AuthenticationError(ModelError):
    """The provider refused the key (401 or 403)."""

    def __init__(self, model: str, status: int) -> None:
        super().__init__(f"{model} refused the key (HTTP {status}). Check the key in the environment.")
        self.model, self.status = model, status


class EndpointUnreachableError(ModelError):
    """No connection to the endpoint, or it did not reply in time.

    `was_sent`: the request went out, so its tokens may have been spent.
    """

    retryable = True

    def __init__(self, model: str, why: str, *, was_sent: bool = False) -> None:
        super().__init__(f"{model} cannot be reached: {why}. Check the address and that the server is running.")
        self.model, self.was_sent = model, was_sent


class RateLimitedError(ModelError):
    """The provider asks to slow down (429). `is_out_of_room`: it has no room at the price that was asked for."""

    retryable = True

    def __init__(self, model: str, *, retry_after_s: float | None = None, is_out_of_room: bool = False) -> None:
        wait = f" It asks to wait {retry_after_s:g} s." if retry_after_s is not None else ""
        super().__init__(f"{model} is rate limited (HTTP 429).{wait} Try again later or lower the load.")
        self.model, self.retry_after_s, self.is_out_of_room = model, retry_after_s, is_out_of_room


class ShareUsedUpError(ModelError):
    """Sleeps have used up their share of the provider's rate limit, or it asked somebody to wait."""

    retryable = True

    def __init__(self, model: str, *, retry_after_s: float) -> None:
        super().__init__(
            f"The rest of the rate limit of {model} is left to answers; sleeps go on in {retry_after_s:.0f} s. "
            "Nothing was spent. `share` in sleeptime.toml says how much of it sleeps may use."
        )
        self.model, self.retry_after_s = model, retry_after_s


class UpstreamError(ModelError):
    """The provider failed (5xx)."""

    retryable = True

    def __init__(self, model: str, status: int, *, retry_after_s: float | None = None) -> None:
        super().__init__(f"{model} failed on its side (HTTP {status}). Try again later.")
        self.model, self.status, self.retry_after_s = model, status, retry_after_s


class RequestRejectedError(ModelError):
    """The provider refused the request itself (other 4xx)."""

    def __init__(self, model: str, status: int, detail: str) -> None:
        super().__init__(f"{model} rejected the request (HTTP {status}): {detail}")
        self.model, self.status, self.detail = model, status, detail


class MalformedReplyError(ModelError):
    """The reply is truncated or not what the protocol promises."""

    def __init__(self, model: str, why: str) -> None:
        super().__init__(f"{model} sent a reply that cannot be read: {why}. Try again, or check the endpoint.")
        self.model = model


class NothingReadableError(ModelError):
    """None of a model's replies followed the protocol."""

    def __init__(self, context: str, model: str) -> None:
        super().__init__(
            f"None of the replies of {model} about {context!r} could be read, so nothing was learned. "
            "Try another model, or the other --strategy."
        )
        self.context, self.model = context, model


class StoreError(SleeptimeError):
    """The database could not be read or written."""


class DatabaseCorruptError(StoreError):
    """The file is not a sound database."""

    def __init__(self, where: str) -> None:
        super().__init__(
            f"{where} is not a sound sleeptime database. Nothing was changed. "
            "Restore a copy, or move it away to start anew."
        )
        self.where = where


class DatabaseFullError(StoreError):
    """The disk is full."""

    def __init__(self, where: str) -> None:
        super().__init__(f"The disk that holds {where} is full. Free some space and run the command again.")
        self.where = where


class DatabaseBusyError(StoreError):
    """Another process holds the database for too long, or it cannot be reached."""

    def __init__(self, where: str, why: str) -> None:
        super().__init__(f"{where} cannot be used now: {why}. Try again when the other process is done.")
        self.where = where


class ContextBusyError(StoreError):
    """Somebody else sleeps on this context."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"Another process sleeps on this context ({name}). Let it finish, or stop it, and run the command again: "
            "the sleep goes on where it was."
        )
        self.name = name


class LeaseLostError(StoreError):
    """A process did not say for too long that it lives, and another one took its work over."""

    def __init__(self, context_id: str) -> None:
        super().__init__(
            f"Another process took over the sleep on context {context_id}, because this one was not heard of for too "
            "long. Nothing is lost: it goes on there."
        )
        self.context_id = context_id


class HandedBackError(StoreError):
    """A sleep was asked to stop, and did so after a round that was kept."""

    def __init__(self, context_id: str) -> None:
        super().__init__(f"The sleep on context {context_id} was stopped. Its rounds are kept; it can be gone on with.")
        self.context_id = context_id
