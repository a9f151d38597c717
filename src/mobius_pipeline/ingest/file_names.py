"""Match file names in tables with the files of a folder."""

import unicodedata
from collections import defaultdict
from collections.abc import Container, Iterable
from pathlib import PurePosixPath


def plain(name: str) -> str:
    """Normalise a path to Unicode NFC: macOS writes an accented letter as two code points, tables as one."""
    return unicodedata.normalize("NFC", PurePosixPath(name).as_posix())


def spelled(name: str, there: Container[str]) -> str:
    """Return `name` normalised; with slashes for backslashes if only that file exists."""
    found = plain(name)
    slashed = plain(found.replace("\\", "/"))
    return slashed if slashed in there and found not in there else found


class NameGuess:
    """Guesses which file a wrong name means: one in another folder, or with another case or suffix."""

    def __init__(self, there: Iterable[str]) -> None:
        """Guess among the files `there`."""
        self._names, self._stems = defaultdict[str, list[str]](list), defaultdict[str, list[str]](list)
        for name in there:
            path = PurePosixPath(name.lower())
            self._names[path.name].append(name)
            self._stems[path.stem].append(name)

    def question(self, name: str) -> str:
        """Return "Did you mean …?" for the file with most folders in common; "" if there is no single one."""
        path = PurePosixPath(name.replace("\\", "/").lower())
        alike = self._names.get(path.name) or self._stems.get(path.stem) or []
        shared = [(_shared(path, PurePosixPath(one.lower())), one) for one in alike]
        best = [one for count, one in shared if count == max(shared)[0]]
        return f" Did you mean {best[0]}?" if len(best) == 1 else ""


def _shared(one: PurePosixPath, other: PurePosixPath) -> int:
    """Return how many folders directly above the two files have the same names."""
    pairs = zip(reversed(one.parts[:-1]), reversed(other.parts[:-1]), strict=False)
    same = [a == b for a, b in pairs]
    return [*same, False].index(False)
