"""An endpoint of OpenAI's protocol, asked greedily."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3

from tspin.errors import InputError, TspinError
from tspin.records.messages import instruction_prompt
from tspin.records.records import AnnotatedRecord

__all__ = ["Endpoint", "Request"]

_SECONDS = urllib3.Timeout(connect=10, read=600)
_BUSY = (429, 502, 503, 504)


@dataclass(frozen=True)
class Request:
    """How each prompt is asked."""

    model: str
    chat: bool
    """Through the server's chat template; otherwise as the papers' instruction template has it."""
    max_new_tokens: int


class Endpoint:
    """One server; its connections are shared by threads."""

    def __init__(self, url: str, *, token: str | None = None, ca_file: Path | None = None) -> None:
        """Nothing is asked yet.

        Args:
            url: With or without `/v1` at its end.
            token: Sent as a bearer token.
            ca_file: Certificates to trust instead of the system's.

        Raises:
            InputError: not an address of http.
        """
        self.url = url.rstrip("/").removesuffix("/v1")
        if not self.url.startswith(("http://", "https://")):
            raise InputError(f"--url {url}: expected http://HOST or https://HOST")
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
        deadline, told = time.monotonic() + wait, False
        while True:
            try:
                return [str(one["id"]) for one in self._call("GET", "/v1/models")["data"]]
            except InputError:
                raise
            except TspinError as error:
                if time.monotonic() >= deadline:
                    raise
                if not told:
                    say(f"waiting for {self.url}: {error}")
                told = True
                time.sleep(min(5.0, max(0.1, deadline - time.monotonic())))

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
            answer = self._call("POST", "/v1/chat/completions", {**asked, "messages": turns})
            return str(answer["choices"][0]["message"].get("content") or "")
        asked["prompt"] = instruction_prompt(turns)
        return str(self._call("POST", "/v1/completions", asked)["choices"][0]["text"])

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        try:
            response = self._pool.request(method, self.url + path, json=body)
        except urllib3.exceptions.HTTPError as error:
            raise TspinError(f"{self.url}: does not answer: {error}") from None
        if response.status >= 400:
            kind = InputError if response.status in (400, 401, 403, 404, 422) else TspinError
            raise kind(
                f"{self.url}{path}: answers {response.status}: "
                f"{response.data[:500].decode(errors='replace')}"
            )
        try:
            answer = json.loads(response.data)
            if not isinstance(answer, dict):
                raise TypeError("not an object")
        except (ValueError, TypeError) as error:
            raise TspinError(f"{self.url}{path}: no answer of OpenAI's protocol: {error}") from None
        return answer
