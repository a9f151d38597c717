"""Remove secrets from command lines, URLs and addresses in tags, logs, errors and reports."""

import logging
import re
import shlex
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

HIDDEN = "…"
_SECRET = (
    r"(?:pass(?:word|wd|phrase)|pwd|secret|token|credentials?|signature"
    r"|(?:api|access|secret|private)[-_]?key(?:[-_]?id)?)"
)
_VALUE = r"(?:\"[^\"]*\"|'[^']*'|[^\s,&;'\")}\]]+)"
_RULES = (
    # User and password in the URL of a server: up to the last @, since a password may contain any character.
    (re.compile(r"([a-z][\w+.-]*://)(?!/)\S*@", re.IGNORECASE), rf"\1{HIDDEN}@"),
    (
        re.compile(r"[^\s:/@'\"(=,{\[]+:(?!//)[^\s,]*[^\s,:]@(?=[\w.\[-])"),
        f"{HIDDEN}@",
    ),  # the same without a scheme
    (re.compile(r"([?&][\w.-]+=)[^\s&#'\"]+"), rf"\1{HIDDEN}"),  # a URL's query
    (re.compile(rf"((?:\b|_){_SECRET}[\"']?\s*[=:]\s*){_VALUE}", re.IGNORECASE), rf"\1{HIDDEN}"),
    (re.compile(rf"(--[\w-]*{_SECRET}\s+)\S+", re.IGNORECASE), rf"\1{HIDDEN}"),
    (re.compile(r"(\bbearer\s+)\S+", re.IGNORECASE), rf"\1{HIDDEN}"),
    # Keys with a known format: AWS (with its secret), Hugging Face, GitHub, GitLab, Slack.
    (re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b(?::[^\s@]+)?"), HIDDEN),
    (re.compile(r"\b(?:hf_|gh[opusr]_|github_pat_|glpat-|xox[abp]-|sk-)[\w-]{16,}"), HIDDEN),
)


def redacted(text: str) -> str:
    """Return `text` with an ellipsis for each secret that is recognised by its format or context."""
    for pattern, shown in _RULES:
        text = pattern.sub(shown, text)
    return text


def command_line(words: Sequence[str]) -> str:
    """Return a command without its program's folder and secrets; of `--params`, only the names."""
    return redacted(shlex.join([Path(words[0]).name, *_without_values(words[1:])]))


def _without_values(words: Sequence[str]) -> Iterator[str]:
    of_params = False  # whether the previous word is `--params`
    for word in words:
        option, equals, given = word.partition("=")
        if of_params:
            yield _names(word)
        elif option == "--params" and equals:
            yield f"{option}={_names(given)}"
        else:
            yield word
        of_params = word == "--params"


def _names(params: str) -> str:
    """Return the names of `name=value,name=value`; a part without `=` continues the previous value."""
    return ",".join(
        f"{name}={HIDDEN}" for name, equals, _ in (one.partition("=") for one in params.split(",")) if equals
    )


def guard_logs() -> None:
    """Redact all log records of this process, also those of libraries."""
    logging.setLogRecordFactory(_record)


def _record(*words: Any, **more: Any) -> logging.LogRecord:
    record = logging.LogRecord(*words, **more)
    try:
        message = record.getMessage()
    except Exception:  # a wrong number of arguments: the handler reports it
        return record
    if (safe := redacted(message)) != message:
        record.msg, record.args = safe, ()
    if record.exc_info and (error := record.exc_info[1]) and (shown := redacted_traceback(error)):
        record.msg, record.args, record.exc_info = f"{record.getMessage()}\n{shown}", (), None
    return record


def redacted_traceback(error: BaseException) -> str | None:
    """Return the redacted traceback of an error that contains a secret; None for any other error."""
    whole = "".join(traceback.format_exception(error))
    safe = redacted(whole)
    return safe if safe != whole else None
