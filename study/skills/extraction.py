"""Structured extraction: five fields of a short note, in any of several wordings."""

from __future__ import annotations

import random
import re
from dataclasses import astuple, dataclass

from study.skills.skill import Item
from tspin.demo.problems import NAMES, OBJECTS
from tspin.records.extractors import find_extractor

__all__ = ["Extraction"]

COLOURS = ("red", "blue", "green", "black", "white", "brown", "pink", "grey")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
SLIP_RATE = 0.04
NOTES = (
    "On {day} {buyer} bought {count} {colour} {thing} from {seller}.",
    "{seller} sold {count} {colour} {thing} to {buyer} on {day}.",
    "{buyer} got {count} {thing}, all {colour}, from {seller} this {day}.",
    "It was {day}: {count} {colour} {thing} went from {seller} to {buyer}.",
)
_WORDS = re.compile(r"[A-Za-z]+|[0-9]+")
_VOCABULARY = {*NAMES, *OBJECTS, *COLOURS, *DAYS}
_exact = find_extractor("exact")


@dataclass(frozen=True)
class Sale:
    """What a note tells."""

    buyer: str
    seller: str
    count: str
    colour: str
    thing: str
    day: str


class Extraction:
    """One right answer a prompt."""

    extractor = "exact"
    answer = "exact"

    def draw(self, rng: random.Random) -> Item:
        """A note about a sale, and the request to list what it says."""
        buyer, seller = rng.sample(NAMES, 2)
        count, colour = str(rng.randint(2, 99)), rng.choice(COLOURS)
        sale = Sale(buyer, seller, count, colour, rng.choice(OBJECTS), rng.choice(DAYS))
        note = rng.choice(NOTES).format(**vars(sale))
        return Item("/".join(astuple(sale)), f"List the facts. {note}", sale)

    def annotation(self, item: Item) -> str:
        """Keys in a fixed order, each with its value."""
        sale: Sale = item.facts
        return (
            f"{{day: {sale.day}, from: {sale.seller}, to: {sale.buyer}, "
            f"item: {sale.thing}, colour: {sale.colour}, count: {sale.count}}}"
        )

    def base_answer(self, item: Item, rng: random.Random) -> str:
        """Lists in other orders and words; a slip replaces one value."""
        values = dict(vars(item.facts))
        if rng.random() < SLIP_RATE:
            other = vars(self.draw(rng).facts)
            field = rng.choice(list(values))
            values[field] = other[field]
        form = rng.choice(
            (
                "{seller} > {buyer}; {count} {colour} {thing}; {day}.",
                "Buyer {buyer}, seller {seller}. {count} {thing}, {colour}. {day}.",
                "{buyer}, {seller}, {thing}, {colour}, {count}, {day}.",
                "Sold: {count} {thing} ({colour}). By {seller}, for {buyer}, {day}.",
                "{day}; {thing}; {colour}; {count}; {seller}; {buyer}.",
            )
        )
        return form.format(**values)

    def is_right(self, item: Item, text: str) -> bool:
        """Every value of the note is named, and no other name, thing, colour, day or number."""
        values = [word for word in _WORDS.findall(text) if word in _VOCABULARY or word.isdigit()]
        return sorted(values) == sorted(astuple(item.facts))

    def is_annotated(self, item: Item, text: str) -> bool:
        """The annotation, letter by letter but for spaces."""
        return _exact(text) == _exact(self.annotation(item))
