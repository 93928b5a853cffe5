"""Draws a poster for a film that has none: its genre's colours, its decade's print and type."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import combinations, pairwise
from typing import Literal

from movie_mlops.data.processors.poster_scenes import SCENES, Colours, Scene
from movie_mlops.domain.movies import Movie

_PALETTES = {  # five colours from dark to light, three palettes a genre
    "Drama": ("2b2d425c6784a3b18ae07a5ff4f1de", "3d405b5f8f86f2cc8fd8674af7f3e9",
              "33272a6d597ab56576e5989bfbf1ea"),
    "Comedy": ("2646532a9d8fe9c46af4a261fff3d6", "073b4cef476fffd16606b894fffaf0",
               "3b1c4ae05780f7c59fff9f1cfff6e9"),
    "Thriller": ("0b0c101f283345a29ed9a441e8e8e8", "10002b3c096c7b5ea7dc2f02f1e9db",
                 "0f1c1f27474e568259b8d430eef3e2"),
    "Action": ("1a1a1d4e4e50950740e8304ff5e9e2", "0d1b2a30455ce63946ffb703fefae0",
               "1f120980240fc44900ffa62bfff1dc"),
    "Romance": ("590d22a4133cff8fa3ffb3c1fff0f3", "4a4e699a6a86f2b5a7e5677df8efe6",
                "2c3e5a6d83b5c9b6e4f49cbbfdf3f6"),
    "Horror": ("0a090822333b5e503f9b2226eae0d5", "03071e3706176a040fd00000e5d9c3",
               "0b14102c3e2f5f7355b5c04ae6ead7"),
    "Science Fiction": ("03045e0077b600b4d8f77f00f1faee", "10162f3a0ca37209b74cc9f0eef2ff",
                        "0b1d26134e4a3a8f85e6f14af0f7ee"),
    "Crime": ("14110f45403a7e7f83d9a566f3f3f4", "1b1b1e373f5158a4b0d8a31af0ead6",
              "20161f4d2c3d8d5a5be0b34af4ecdf"),
    "Mystery": ("1d1a314d2d529a4c95f08caef6e7f1", "132a1331572c7a9a4fecd06ff6f8e4",
                "17233b2e4a6b7d9bb8e2a857f1efe7"),
    "Adventure": ("283618606c38dda15ebc6c25fefae0", "023047219ebc8ecae6fb8500fdf6e3",
                  "40241a9c4a2ce0a458588b8bfbf1dc"),
    "Fantasy": ("2319425e548e9f86c0f2a6cbfbf2ff", "0b3954087e8b9cc9d9ff5a5ffdf4e3",
                "1b2a1e3f6c51a3c9a8f4c95df8f7ec"),
    "Animation": ("1d35573a86ff8fd3feff8c42fffdf5", "2d1e2ff1594653b3cbf9c22efff7e6",
                  "22577a38a3a580ed99ff6b9dfbfff3"),
    "Family": ("1f56735fa36af7d08ae3655bfff8ee", "33658a5d9fc7f6c45ff26419fffaf2",
               "4b3f72a06cd5f7b2b7ffd23ffff7ef"),
    "Documentary": ("22223b4a4e699a8c98d68c45f2e9e4", "1c28263a5a40a3b18ae0a44af7f5ef",
                    "2a2a2a6b6b6bb0aca4cf4532f4f2ee"),
    "History": ("3c151869140eb06a3bd58936f2e8cf", "2f2d2e536271a89f84b8860bf1dca7",
                "1f2a3d4f3a5ba3778dcfa15bf3e9d7"),
    "War": ("1f24213e4c3a7a7f5bc0a35ee6e0cf", "2b21185c4a3d9c8a76c14b3aede3d4",
            "20262e45525e8b9aa3b84a32e9e6dd"),
    "Music": ("2400467b2cbfc77dffff8500fff4e0", "0f0f1a2e294e8661c1f46197fcf5e9",
              "12263a0f6c72c5d86df26a8dfff8e8"),
    "Western": ("3b1f0f8c4a1ed98a3dc8553dfbead0", "402a238a3b22e0a05af4b942fdf0d5",
                "2e2a3b6b4f5ac98d6be2725bfae8d8"),
}  # fmt: skip

_FITTING = {
    "Science Fiction": "orbits city eye horizon", "Horror": "forest windows eye stairs",
    "Romance": "profiles sea silhouette windows", "Western": "road horizon rays silhouette",
    "War": "horizon silhouette rays road", "Adventure": "sea horizon road orbits",
    "Crime": "city windows stairs type_only", "Thriller": "windows eye stairs road",
    "Comedy": "mosaic rays type_only silhouette", "Animation": "mosaic rays sea orbits",
    "Drama": "silhouette sea windows road horizon", "Music": "mosaic rays orbits type_only",
    "Fantasy": "forest orbits horizon stairs", "Family": "mosaic silhouette sea horizon",
    "Documentary": "type_only horizon mosaic city", "History": "horizon profiles stairs silhouette",
    "Mystery": "eye stairs forest windows", "Action": "rays city road silhouette",
}  # fmt: skip

_SANS = "Pretendard,'Apple SD Gothic Neo','Noto Sans KR','Noto Sans CJK KR',system-ui,sans-serif"
_SERIF = "'Noto Serif KR','Noto Serif CJK KR',AppleMyungjo,Georgia,serif"


@dataclass(frozen=True, slots=True)
class _Print:
    """How a decade prints: type, grain, paper edge."""

    until: int
    family: str
    weight: int
    tracking: float
    upper: bool
    grain: float
    frame: int


_PRINTS = (
    _Print(1954, _SERIF, 900, 0.4, True, 0.34, 9),
    _Print(1969, _SANS, 900, -0.6, False, 0.26, 0),
    _Print(1979, _SERIF, 700, -0.3, False, 0.30, 6),
    _Print(1989, _SANS, 800, 0.8, True, 0.18, 0),
    _Print(2003, _SERIF, 500, 1.2, True, 0.10, 0),
    _Print(2014, _SANS, 400, 1.0, True, 0.0, 0),
    _Print(9999, _SANS, 800, -0.4, False, 0.0, 0),
)
_MARGIN = 14
_READABLE = 4.5  # WCAG's contrast for text


def draw_poster(movie: Movie, language: Literal["ko", "en"]) -> str:
    """An SVG of 200 x 300 units, under 4 kB, without fonts, images or scripts from elsewhere.

    The same film gives the same picture; only the words change with the language.
    """
    rng = random.Random(movie.movie_id * 2_654_435_761 % 2**32)  # noqa: S311 - a picture, no secret
    genre = next((name for name in movie.genres if name in _PALETTES), "Drama")
    colours = _colours(rng.choice(_PALETTES[genre]))
    usual = _FITTING[genre].split()
    scene = SCENES[rng.choice(usual if rng.random() < 0.6 else [*SCENES])](rng, colours)
    style = next(p for p in _PRINTS if (movie.year or 2020) <= p.until)
    ink = max((colours.light, colours.dark), key=lambda c: _contrast(c, scene.ground))
    if _contrast(ink, scene.ground) < _READABLE:
        ink = max(("#fff", "#000"), key=lambda c: _contrast(c, scene.ground))
    number = int(movie.movie_id)
    words = _words(movie, language, scene, style, ink)
    body = scene.shapes.replace("url(#s)", f"url(#s{number})") + words
    label = escape(_title(movie, language), quote=True)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 200 300" role="img" '
        f'aria-label="{label}"><defs><linearGradient id="s{number}" x2="0" y2="1">'
        f'<stop stop-color="{colours.deep}"/><stop offset=".62" stop-color="{colours.accent}"/>'
        f"</linearGradient>{_grain_filter(style, number)}</defs>{body}"
        f"{_finish(style, colours, number)}</svg>"
    )


def _colours(packed: str) -> Colours:
    return Colours(*(f"#{packed[i : i + 6]}" for i in range(0, 30, 6)))


def _luminance(colour: str) -> float:
    if len(colour) == len("#fff"):
        return float(colour == "#fff")
    channels = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    red, green, blue = (value**2.2 for value in channels)
    return float(0.2126 * red + 0.7152 * green + 0.0722 * blue)


def _contrast(one: str, other: str) -> float:
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def _title(movie: Movie, language: str) -> str:
    return (movie.title_ko if language == "ko" else movie.title_en) or movie.title


def _words(movie: Movie, language: str, scene: Scene, style: _Print, ink: str) -> str:
    title = _title(movie, language)
    if style.upper:
        title = title.upper()
    high = 158 if scene.place == "full" else 50
    lines, size = _set_title(title, 200 - 2 * _MARGIN, high, style.tracking, scene.place == "full")
    tall = size * 1.14 * len(lines)
    if scene.place == "bottom":
        first = 281 - 0.7 * style.frame - tall + size * 0.85 - max(0, 44 - tall) / 2.4
    elif scene.place == "top":
        first = 22 + size * 0.85
    else:
        first = 26 + size * 0.85
    centred = scene.place != "full" and movie.movie_id % 3 != 0
    x, anchor = (100, "middle") if centred else (_MARGIN, "start")
    spans = "".join(
        f'<tspan x="{x}" y="{first + i * size * 1.14:.4g}">{escape(line)}</tspan>'
        for i, line in enumerate(lines)
    )
    small = _credit_line(movie, language)
    below = 292 - 0.8 * style.frame if scene.place == "bottom" else first + tall - size * 0.85 + 8
    size_small = min(7.0, 172 / max(_width(small, 0.3), 1))
    return (
        f'<g fill="{ink}" text-anchor="{anchor}" font-family="{style.family}">'
        f'<text font-size="{size:.3g}" font-weight="{style.weight}" '
        f'letter-spacing="{style.tracking:g}">{spans}</text>'
        f'<text x="{x}" y="{below:.4g}" font-size="{size_small:.3g}" letter-spacing=".3" '
        f'opacity=".85">{escape(small)}</text></g>'
    )


def _credit_line(movie: Movie, language: str) -> str:
    director = movie.directors[0] if movie.directors else ""
    year = str(movie.year or "")
    if not director:
        return year
    return f"감독 {director} · {year}" if language == "ko" else f"{director} · {year}"


def _set_title(
    title: str, wide: float, high: float, tracking: float, fill_sheet: bool
) -> tuple[Sequence[str], float]:
    """Break between words only, into the lines that allow the largest type."""
    words = title.split()[:14] or [""]
    best: tuple[list[str], float] = ([title], 0.0)
    for count in range(1, min(len(words), 6 if fill_sheet else 3) + 1):
        for cuts in combinations(range(1, len(words)), count - 1):
            edges = (0, *cuts, len(words))
            lines = [" ".join(words[a:b]) for a, b in pairwise(edges)]
            longest = max(_width(line, 0) for line in lines)
            room = wide - tracking * max(len(line) for line in lines)
            size = min(room / max(longest, 0.5), high / (1.14 * count), 64 if fill_sheet else 31)
            if size > best[1] + 0.5:
                best = (lines, size)
    return best


def _width(text: str, tracking: float) -> float:
    """Estimated width in em; a little more than fonts need, so that nothing is cut."""
    width = 0.0
    for letter in text:
        if ord(letter) >= 0x1100:
            width += 0.98
        elif letter in " .,:;'il!|·":
            width += 0.32
        else:
            width += 0.74 if letter.isupper() or letter in "mwMW" else 0.6
    return width + tracking * 0.1 * len(text)


def _grain_filter(style: _Print, number: int) -> str:
    if not style.grain:
        return ""
    return (
        f'<filter id="g{number}" x="0" y="0" width="1" height="1">'
        f'<feTurbulence type="fractalNoise" baseFrequency=".9" seed="{number % 97}"/>'
        f'<feColorMatrix values="0 0 0 0 .1 0 0 0 0 .07 0 0 0 0 .03 0 0 0 -2.2 1.5"/></filter>'
    )


def _finish(style: _Print, colours: Colours, number: int) -> str:
    finish = ""
    if style.grain:
        finish = (
            f'<rect width="200" height="300" filter="url(#g{number})" opacity="{style.grain}"/>'
        )
    if style.frame:
        f = style.frame
        finish += (
            f'<rect x="{f / 2:g}" y="{f / 2:g}" width="{200 - f}" height="{300 - f}" fill="none" '
            f'stroke="{colours.light}" stroke-width="{f}"/>'
        )
    return finish
