"""Which file a table means by the name that it writes."""

import unicodedata
from collections import defaultdict
from collections.abc import Container, Iterable
from pathlib import PurePosixPath


def plain(name: str) -> str:
    """One spelling for a path: macOS writes an accented letter as two code points, tables as one."""
    return unicodedata.normalize("NFC", PurePosixPath(name).as_posix())


def spelled(name: str, there: Container[str]) -> str:
    """`name` in its plain spelling; one that Windows wrote, with backslashes, as the file that is there."""
    found = plain(name)
    slashed = plain(found.replace("\\", "/"))
    return slashed if slashed in there and found not in there else found


class NameGuess:
    """Guesses which file was meant by a name that no file has: one of another folder, case or ending."""

    def __init__(self, there: Iterable[str]) -> None:
        """Choose among these."""
        self._names, self._stems = defaultdict[str, list[str]](list), defaultdict[str, list[str]](list)
        for name in there:
            path = PurePosixPath(name.lower())
            self._names[path.name].append(name)
            self._stems[path.stem].append(name)

    def question(self, name: str) -> str:
        """Ask for the file that shares the most folders with `name`; "" if there is not one such."""
        path = PurePosixPath(name.replace("\\", "/").lower())
        alike = self._names.get(path.name) or self._stems.get(path.stem) or []
        shared = [(_shared(path, PurePosixPath(one.lower())), one) for one in alike]
        best = [one for count, one in shared if count == max(shared)[0]]
        return f" Did you mean {best[0]}?" if len(best) == 1 else ""


def _shared(one: PurePosixPath, other: PurePosixPath) -> int:
    """How many folders above the files have the same names."""
    pairs = zip(reversed(one.parts[:-1]), reversed(other.parts[:-1]), strict=False)
    same = [a == b for a, b in pairs]
    return [*same, False].index(False)
