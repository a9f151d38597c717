"""Caption emoji by the Unicode code points in their file names."""

import re
import sys
import unicodedata
from collections.abc import Sequence

from mobius_pipeline.runtime.errors import MobiusError

_JOINER, _EMOJI_STYLE, _KEYCAP = 0x200D, 0xFE0F, 0x20E3
_LETTERS = range(0x1F1E6, 0x1F200)  # regional indicators: two of them are a flag
_TAG = 0xE0000  # plus an ASCII letter: a tag; several tags are the flag of a region
_TAGS = range(_TAG + 0x20, _TAG + 0x7F)
_TONES = {
    0x1F3FB: "light skin tone",
    0x1F3FC: "medium-light skin tone",
    0x1F3FD: "medium skin tone",
    0x1F3FE: "medium-dark skin tone",
    0x1F3FF: "dark skin tone",
}
# Code points that draw nothing themselves.
_SILENT = {_JOINER, _EMOJI_STYLE, *_TONES}
# Words that a code point puts before the one that it is joined to; those of adults precede a job.
_BEFORE = {0x2640: "female", 0x2642: "male", 0x2B1B: "black", 0x2744: "white"}
_ADULTS = {0x1F468: "male", 0x1F469: "female", 0x1F9D1: ""}
_PEOPLE = {0x1F466, 0x1F467, *_ADULTS}
# Emoji of one gender, or of several people in one code point, and their form without gender: all move alike.
_PERSON, _CHILD, _HANDSHAKE, _HEART = 0x1F9D1, 0x1F9D2, 0x1F91D, 0x2764
_UNGENDERED = {
    **dict.fromkeys((0x1F468, 0x1F469), (_PERSON,)),
    **dict.fromkeys((0x1F466, 0x1F467), (_CHILD,)),
    **dict.fromkeys((0x1F474, 0x1F475), (0x1F9D3,)),  # older person
    **dict.fromkeys((0x1F934, 0x1F478), (0x1FAC5,)),  # person with crown
    **dict.fromkeys((0x1F385, 0x1F936), (_PERSON, 0x1F384)),  # and christmas tree
    **dict.fromkeys((0x1F930, 0x1FAC3), (0x1FAC4,)),  # pregnant person
    **dict.fromkeys((0x1F46B, 0x1F46C, 0x1F46D), (_PERSON, _HANDSHAKE, _PERSON)),  # holding hands
    0x1F57A: (0x1F483,),  # dancer
    0x1F491: (_PERSON, _HEART, _PERSON),
    0x1F48F: (_PERSON, _HEART, 0x1F48B, _PERSON),  # and a kiss
}
_GENDER_SIGNS = {0x2640, 0x2642}
_JOBS = {
    0x1F33E: "farmer",
    0x1F373: "cook",
    0x1F393: "student",
    0x1F3A4: "singer",
    0x1F3A8: "artist",
    0x1F3EB: "teacher",
    0x1F3ED: "factory worker",
    0x1F4BB: "technologist",
    0x1F4BC: "office worker",
    0x1F527: "mechanic",
    0x1F52C: "scientist",
    0x1F680: "astronaut",
    0x1F692: "firefighter",
    0x2695: "health worker",
    0x2696: "judge",
    0x2708: "pilot",
}
# Code points whose Unicode name does not describe the picture.
_NAMES = {
    0x1F324: "sun with small cloud",
    0x1F325: "sun behind cloud",
    0x1F326: "sun behind cloud with rain",
    0x1F3C7: "racing horse with a rider",
    0x1F446: "hand pointing up",
    0x1F447: "hand pointing down",
    0x1F448: "hand pointing left",
    0x1F449: "hand pointing right",
    0x1F465: "pair of busts in silhouette",
    0x1F9B2: "bald head",
    0x1F9D1: "person",
    0x2764: "heart",
}


def code_points(stem: str) -> list[int] | None:
    """Parse `1f3c3-1f3fb-200d-2640-fe0f` (or with `_`) into code points; None if it has another form."""
    if not re.fullmatch(r"[0-9a-f]{4,6}([-_][0-9a-f]{4,6})*", stem):
        return None
    points = [int(word, 16) for word in re.split("[-_]", stem)]
    return points if max(points) <= sys.maxunicode else None


def caption(stem: str) -> str:
    """Return the caption of the emoji whose file name without suffix is `stem`.

    Raises:
        MobiusError: If `stem` does not give code points.
    """
    return f"an animated emoji of {with_article(describe(_points(stem)))}, on a white background"


def _points(stem: str) -> list[int]:
    points = code_points(stem)
    if points is None:
        raise MobiusError(
            f"{stem} gives no Unicode code points: name the file like 1f600.webp or 1f3c3-1f3fb.webp."
        )
    return points


def group(stem: str) -> str:
    """Return a name that all skin tones and genders of an emoji share: its other code points.

    Raises:
        MobiusError: If `stem` does not give code points.
    """
    drawn = (point for point in _points(stem) if point not in _SILENT | _GENDER_SIGNS)
    alike = (one for point in drawn for one in _UNGENDERED.get(point, (point,)))
    return "-".join(f"{point:x}" for point in alike)


def describe(points: Sequence[int]) -> str:
    """Describe what a sequence of code points shows, without an article before the first word."""
    tones = [_TONES[point] for point in points[1:] if point in _TONES]
    drawn = [points[0], *(point for point in points[1:] if point not in _SILENT)]
    words = _flag(drawn) or _keycap(drawn) or _joined(drawn)
    if not tones:
        return words
    return f"{words} {'and' if ' with ' in words else 'with'} {' and '.join(dict.fromkeys(tones))}"


def with_article(words: str) -> str:
    """Put `a` or `an` before `words`, except before plurals and hair."""
    first = words.split(" with ")[0]
    if first.endswith(("s", " hair")) and not first.endswith(("ss", "us")):
        return words
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _flag(points: Sequence[int]) -> str | None:
    if all(point in _LETTERS for point in points):
        return f"flag with the letters {' '.join(chr(point - _LETTERS[0] + ord('A')) for point in points)}"
    tags = [point for point in points[1:] if point in _TAGS]
    if tags:
        return f"flag of {''.join(chr(point - _TAG) for point in tags)}"
    return None


def _keycap(points: Sequence[int]) -> str | None:
    return f"keycap {chr(points[0])}" if points[-1] == _KEYCAP else None


def _joined(points: Sequence[int]) -> str:
    first, rest = points[0], points[1:]
    if any(point in _PEOPLE for point in rest):
        names = [_name(first), *(with_article(_name(point)) for point in rest)]
        return f"{', '.join(names[:-1])} and {names[-1]}"
    jobs = [_JOBS[point] for point in rest if first in _ADULTS and point in _JOBS]
    if jobs:
        return f"{_ADULTS[first]} {jobs[0]}".strip()
    before = [_BEFORE[point] for point in rest if point in _BEFORE]
    after = [with_article(_name(point)) for point in rest if point not in _BEFORE]
    return " with ".join([" ".join([*before, _name(first)]), *after])


def _name(point: int) -> str:
    # Code points newer than this Python's Unicode tables have no name here.
    name = unicodedata.name(chr(point), f"symbol {point:x}").lower()
    return _NAMES.get(point, name.removeprefix("emoji component ").removesuffix(" sign"))
