"""Responses of an earlier policy to the same prompts, as drafts of what a policy now responds."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tspin.errors import InputError
from tspin.records.records import Response, ResponseKey, read_located, read_record_at
from tspin.tokens.compact import Places
from tspin.tokens.prompts import PromptTemplate

__all__ = ["opened_drafts"]


@contextmanager
def opened_drafts(
    path: Path | None, template: PromptTemplate
) -> Iterator[Callable[[ResponseKey], tuple[int, ...]]]:
    """A response (id and sample) to the token ids of its draft, () where there is none.

    Texts stay on the disk until they are asked for. A text may have other token ids than were
    emitted: then less of the draft comes true, and nothing else happens.

    Args:
        path: Response records; without such a file there are no drafts.
        template: Encodes them.

    Raises:
        InputError: a record of the file is broken.
    """
    if path is None or not path.is_file():
        yield lambda key: ()
        return
    offsets = array("q")
    places = Places(_keys(path, offsets))
    with path.open("rb") as file:

        def draft_of(key: ResponseKey) -> tuple[int, ...]:
            for place in places.of(key):
                response = read_record_at(file, offsets[place], Response)
                if response.key == key:
                    return _ids(response, template)
            return ()

        yield draft_of


def _keys(path: Path, offsets: array[int]) -> Iterator[ResponseKey]:
    """The responses of a file, one after the other; where each begins is added to `offsets`."""
    for offset, response in read_located(path, Response):
        offsets.append(offset)
        yield response.key


def _ids(response: Response, template: PromptTemplate) -> tuple[int, ...]:
    try:
        ids = template.response_ids(
            response.response,
            finished=response.finish_reason == "stop",
            specials=response.special_tokens > 0,
        )
    except InputError:  # A text that no token ids stand for is of no use here.
        return ()
    return tuple(ids)
