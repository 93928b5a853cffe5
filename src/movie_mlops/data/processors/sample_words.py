"""Word lists of the invented catalogue, and how Korean and English are put together."""

import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources

_PARTICLES = {"은": ("은", "는"), "이": ("이", "가"), "을": ("을", "를"), "과": ("과", "와"),
              "으로": ("으로", "로")}  # fmt: skip
_MARK = re.compile(r"(.)\[(은|이|을|과|으로)\]")
_CHOICE = re.compile(r"\{(\w):([^}]*)\}")
_YEARS = re.compile(r"@(-?)(\d{4}) ")
_FIRST_HANGUL, _LAST_HANGUL, _FINALS, _RIEUL = 0xAC00, 0xD7A3, 28, 8
_DIGITS_WITH_FINAL = "013678"


@dataclass(frozen=True, slots=True)
class Pair:
    """One text in both languages, and the years it fits."""

    en: str
    ko: str
    since: int = 0
    until: int = 9999


@dataclass(frozen=True, slots=True)
class Words:
    """The lists of one section, by the key of their lines."""

    lists: Mapping[str, list[Pair]] = field(default_factory=dict)

    def __getitem__(self, key: str) -> list[Pair]:
        return self.lists[key]


@cache
def stories() -> Mapping[str, Words]:
    """Nouns `n`, adjectives `a`, titles `t`, people `w` and plots `-` by main genre."""
    return _sections("stories.txt")


@cache
def names() -> Mapping[str, Words]:
    """Family names `f`, given names `g` and places `p` by language."""
    return _sections("names.txt")


@cache
def title_patterns() -> list[Pair]:
    """Patterns of titles."""
    return [_pair(line) for line in _lines("titles.txt")]


def with_particles(korean: str) -> str:
    """Resolve `[은]`, `[이]`, `[을]`, `[과]`, `[으로]` by the sound before them."""
    return _MARK.sub(lambda match: match[1] + _particle(match[1], match[2]), korean)


def fill(pattern: Pair, slots: Mapping[str, Pair], rng: random.Random) -> Pair:
    """Put words into a pattern; a choice of one letter falls alike in both languages."""
    english, korean = pattern.en, pattern.ko
    for name, word in slots.items():
        english = english.replace(f"{{{name}}}", word.en)
        korean = korean.replace(f"{{{name}}}", word.ko)
    drawn = {letter: rng.random() for letter in "xyz"}

    def choose(match: re.Match[str]) -> str:
        options = match[2].split("~")
        return options[int(drawn[match[1]] * len(options))]

    return Pair(_CHOICE.sub(choose, english), with_particles(_CHOICE.sub(choose, korean)))


def sentence(pair: Pair) -> Pair:
    """Begin with a capital and end with a full stop."""
    english = pair.en[:1].upper() + pair.en[1:]
    english = re.sub(r"([.:] )([a-z])", lambda m: m[1] + (m[2].upper() if m[1] == ". " else m[2]),
                     english)  # fmt: skip
    return Pair(english.rstrip(".") + ".", pair.ko.rstrip(".") + ".")


def fitting(pairs: list[Pair], year: int) -> list[Pair]:
    """Those that fit the year."""
    return [pair for pair in pairs if pair.since <= year <= pair.until]


def _particle(before: str, mark: str) -> str:
    closed, after_rieul = False, False
    if _FIRST_HANGUL <= ord(before) <= _LAST_HANGUL:
        final = (ord(before) - _FIRST_HANGUL) % _FINALS
        closed, after_rieul = final != 0, final == _RIEUL
    elif before.isdigit():
        closed, after_rieul = before in _DIGITS_WITH_FINAL, before in "178"
    with_final, without = _PARTICLES[mark]
    return without if not closed or (mark == "으로" and after_rieul) else with_final


def _lines(name: str) -> Iterator[str]:
    folder = resources.files("movie_mlops.data.processors") / "words"
    for line in (folder / name).read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            yield line


def _sections(name: str) -> Mapping[str, Words]:
    sections: dict[str, Words] = {}
    current = Words()
    for line in _lines(name):
        if line.startswith("== "):
            current = sections.setdefault(line[3:], Words({}))
            continue
        key, _, rest = line.partition(" ")
        separator = {"-": None, "t": "; ", "w": "; "}.get(key, ", ")
        parts = [rest] if separator is None else rest.split(separator)
        known = dict(current.lists).get(key, [])
        known += [_pair(part) for part in parts]
        current.lists[key] = known  # type: ignore[index]
    return sections


def _pair(text: str) -> Pair:
    since, until = 0, 9999
    match = _YEARS.match(text)
    if match:
        text = text[match.end() :]
        since, until = (0, int(match[2])) if match[1] else (int(match[2]), 9999)
    english, _, korean = text.partition("|")
    return Pair(english.strip(), korean.strip(), since, until)
