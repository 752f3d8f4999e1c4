"""An endpoint of OpenAI's protocol, asked greedily."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import urllib3

from tspin.errors import InputError, TspinError
from tspin.records.messages import instruction_prompt
from tspin.records.records import AnnotatedRecord

__all__ = ["Endpoint", "Request"]

Result = TypeVar("Result")

_SECONDS = urllib3.Timeout(connect=10, read=600)
_BUSY = (429, 502, 503, 504)
_REFUSED = (400, 401, 403, 422)
"""Nothing to wait for; a gateway without a route yet answers 404."""


@dataclass(frozen=True)
class Request:
    """How each prompt is asked."""

    model: str
    chat: bool
    """Through the server's chat template; otherwise as the papers' instruction template has it."""
    max_new_tokens: int


class Endpoint:
    """One server; its connections are shared by threads."""

    def __init__(
        self, url: str, *, token_file: Path | None = None, ca_file: Path | None = None
    ) -> None:
        """Nothing is asked yet.

        Args:
            url: With or without `/v1` at its end.
            token_file: Holds a bearer token.
            ca_file: Certificates to trust instead of the system's.

        Raises:
            InputError: not an address of http, no such file, or a token that others could read.
        """
        self.url = url.rstrip("/").removesuffix("/v1")
        if not self.url.startswith(("http://", "https://")):
            raise InputError(f"--url {url}: expected http://HOST or https://HOST")
        for file in filter(None, (token_file, ca_file)):
            if not file.is_file():
                raise InputError(f"{file}: no such file")
        own = urlsplit(self.url).hostname in ("localhost", "127.0.0.1", "::1")
        if token_file is not None and self.url.startswith("http://") and not own:
            raise InputError(f"--url {url}: a token is sent over https only, or to this machine")
        token = None if token_file is None else token_file.read_text(encoding="utf-8").strip()
        retries = urllib3.Retry(
            total=5,
            connect=0,  # Whether it is there yet is for `models` to wait for.
            backoff_factor=0.5,
            status_forcelist=_BUSY,
            allowed_methods=None,  # A greedy answer may be asked for twice.
            raise_on_status=False,
        )
        self._pool = urllib3.PoolManager(
            maxsize=64,
            timeout=_SECONDS,
            retries=retries,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            ca_certs=None if ca_file is None else str(ca_file),
        )

    def models(self, wait: float, say: Callable[[str], None]) -> list[str]:
        """The names that it serves.

        Args:
            wait: Seconds in which it may still be starting.
            say: Told once that it is waited for.

        Raises:
            TspinError: it does not answer, even then.
        """
        deadline, pause = time.monotonic() + wait, 0.1
        while True:
            try:
                return self._call("GET", "/v1/models", lambda a: [str(m["id"]) for m in a["data"]])
            except InputError:
                raise
            except TspinError as error:
                if time.monotonic() >= deadline:
                    raise
                if pause == 0.1:
                    say(f"waiting for {self.url}: {error}")
                time.sleep(pause)
                pause = min(5.0, 2 * pause)

    def answer(self, record: AnnotatedRecord, request: Request) -> str:
        """What it answers to a record's prompt, as it likes it best.

        Args:
            record: Only its prompt is sent.
            request: How it is asked.

        Raises:
            InputError: it refuses the request.
            TspinError: it does not answer.
        """
        asked: dict[str, Any] = {
            "model": request.model,
            "temperature": 0,
            "max_tokens": request.max_new_tokens,
            # vLLM's own: an evaluation writes them by their names, too.
            "skip_special_tokens": False,
        }
        turns = [message.as_json() for message in record.messages]
        if request.chat:
            if record.tools is not None:
                # Shown to the template, and no call is taken out of the text.
                asked |= {"tools": record.tools, "tool_choice": "none"}
            asked["messages"] = turns
            return self._call("POST", "/v1/chat/completions", _said, asked)
        asked["prompt"] = instruction_prompt(turns)
        return self._call("POST", "/v1/completions", lambda a: str(a["choices"][0]["text"]), asked)

    def _call(
        self,
        method: str,
        path: str,
        read: Callable[[Any], Result],
        body: dict[str, Any] | None = None,
    ) -> Result:
        try:
            response = self._pool.request(method, self.url + path, json=body)
        except urllib3.exceptions.HTTPError as error:
            raise TspinError(f"{self.url}: does not answer: {error}") from None
        if response.status >= 400:
            kind = InputError if response.status in _REFUSED else TspinError
            raise kind(
                f"{self.url}{path}: answers {response.status}: "
                f"{response.data[:500].decode(errors='replace')}"
            )
        try:
            return read(json.loads(response.data))
        except (ValueError, TypeError, KeyError, IndexError):
            raise TspinError(
                f"{self.url}{path}: no answer of OpenAI's protocol: "
                f"{response.data[:200].decode(errors='replace')!r}"
            ) from None


def _said(answer: Any) -> str:
    return str(answer["choices"][0]["message"].get("content") or "")
