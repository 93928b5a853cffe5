"""Pictures of the drawn posters: a dozen compositions in five colours on a 200 x 300 sheet."""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple


class Colours(NamedTuple):
    """A palette from dark to light; `accent` is the loud one."""

    dark: str
    deep: str
    mid: str
    accent: str
    light: str


@dataclass(frozen=True, slots=True)
class Scene:
    """Shapes, and where the title goes: `top` or `bottom` of the sheet, on colour `ground`."""

    shapes: str
    ground: str
    place: str = "bottom"


def _rect(x: float, y: float, width: float, height: float, fill: str) -> str:
    return f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" fill="{fill}"/>'


def _disc(x: float, y: float, radius: float, fill: str, more: str = "") -> str:
    return f'<circle cx="{x:.4g}" cy="{y:.4g}" r="{radius:.3g}" fill="{fill}"{more}/>'


def _area(points: str, fill: str, more: str = "") -> str:
    return f'<path d="M{points}Z" fill="{fill}"{more}/>'


def _sheet(fill: str) -> str:
    return _rect(0, 0, 200, 300, fill)


def _figure(x: float, foot: float, height: float, fill: str, coat: float = 0.30) -> str:
    """A standing person in a coat."""
    h, w = height, height * coat
    return _disc(x, foot - h * 0.9, h * 0.095, fill) + _area(
        f"{x - w * 0.35:.4g} {foot - h * 0.78:.4g}q{w * 0.35:.3g} {-h * 0.06:.3g} {w * 0.7:.3g} 0"
        f"l{w * 0.22:.3g} {h * 0.46:.3g}h{-w * 0.2:.3g}l{-w * 0.06:.3g} {h * 0.32:.3g}"
        f"h{-w * 0.2:.3g}l{-w * 0.05:.3g} {-h * 0.28:.3g}l{-w * 0.05:.3g} {h * 0.28:.3g}"
        f"h{-w * 0.2:.3g}l{-w * 0.06:.3g} {-h * 0.32:.3g}h{-w * 0.2:.3g}",
        fill,
    )


def _hills(rng: random.Random, base: float, rise: float, fill: str, steps: int) -> str:
    peaks = [
        f"{200 * step / steps:.4g} {base - rise * rng.random():.4g}" for step in range(steps + 1)
    ]
    return _area("L".join(["-5 300", f"-5 {base:g}", *peaks, "205 300"]), fill)


def horizon(rng: random.Random, c: Colours) -> Scene:
    """Sun or moon over ridges."""
    sharp = rng.choice([3, 4, 7, 11])
    sun = _disc(rng.uniform(45, 155), rng.uniform(80, 130), rng.uniform(20, 52),
                rng.choice([c.accent, c.light]))  # fmt: skip
    ridges = (
        _hills(rng, 170, 50, c.mid, sharp)
        + _hills(rng, 195, 36, c.deep, sharp + 1)
        + _hills(rng, 222, 22, c.dark, sharp)
    )
    return Scene(_sheet("url(#s)") + sun + ridges, c.dark)


def silhouette(rng: random.Random, c: Colours) -> Scene:
    """One to three people before a great disc."""
    sky, disc = rng.choice([(c.light, c.accent), (c.mid, c.light), (c.accent, c.dark)])
    x, radius = rng.uniform(80, 120), rng.uniform(56, 82)
    figure = c.light if disc == c.dark else c.dark
    people = rng.choice([1, 1, 2, 2, 3])
    row = "".join(
        _figure(x + (i - (people - 1) / 2) * 30, 214, rng.uniform(82, 112), figure,
                rng.uniform(0.26, 0.42))
        for i in range(people)
    )  # fmt: skip
    ground = _rect(0, 210, 200, 90, figure)
    return Scene(_sheet(sky) + _disc(x, 125, radius, disc) + row + ground, figure)


def mosaic(rng: random.Random, c: Colours) -> Scene:
    """Quarter circles, discs and triangles on a grid."""
    size = rng.choice([50, 100 / 1.5])
    rows, columns = int(210 / size), round(200 / size)
    parts = [_sheet(c.light)]
    for row in range(rows):
        for column in range(columns):
            x, y, s = column * size, row * size, size
            ink, under = rng.sample([c.dark, c.deep, c.mid, c.accent, c.light], 2)
            parts.append(_rect(x, y, s + 0.3, s + 0.3, under))
            shape = rng.randrange(4)
            if shape == 0:
                parts.append(_area(f"{x:g} {y:g}h{s:g}a{s:g} {s:g} 0 0 1 {-s:g} {s:g}", ink))
            elif shape == 1:
                parts.append(_disc(x + s / 2, y + s / 2, s / 2.6, ink))
            elif shape == 2:
                parts.append(_area(f"{x:g} {y + s:g}h{s:g}v{-s:g}", ink))
            else:
                parts.append(
                    _area(f"{x + s:g} {y + s:g}h{-s:g}a{s:g} {s:g} 0 0 1 {s:g} {-s:g}", ink)
                )
    return Scene("".join(parts), c.light)


def windows(rng: random.Random, c: Colours) -> Scene:
    """A wall at night; one window is lit, and somebody stands in it."""
    columns, rows = rng.choice([(3, 3), (4, 4), (5, 5), (2, 2)])
    wide, high = 160 / columns, 180 / rows
    lit = rng.randrange(columns * rows)
    parts = [_sheet(c.dark)]
    for number in range(columns * rows):
        x, y = 20 + number % columns * wide, 22 + number // columns * high
        fill = c.accent if number == lit else rng.choice([c.deep, c.deep, c.mid])
        parts.append(_rect(x + wide * 0.14, y, wide * 0.72, high * 0.78, fill))
        if number == lit:
            parts.append(
                _figure(x + wide * rng.uniform(0.4, 0.6), y + high * 0.79, high * 0.66, c.dark)
            )
    return Scene("".join(parts), c.dark)


def road(rng: random.Random, c: Colours) -> Scene:
    """A road to the vanishing point."""
    x, y = rng.uniform(60, 140), rng.uniform(150, 180)
    marks = "".join(
        _area(f"{x + (100 - x) * a - 4 * a:.4g} {y + (300 - y) * a:.4g}h{8 * a:.3g}"
              f"l{5 * a:.3g} {26 * a:.3g}h{-18 * a:.3g}", c.light)
        for a in (0.12, 0.28, 0.5, 0.8)
    )  # fmt: skip
    sky, ground, glow = rng.choice([(c.light, c.light, c.accent), ("url(#s)", c.deep, c.light)])
    sun = _disc(x + rng.uniform(-25, 25), y - rng.uniform(0, 30), rng.uniform(16, 34), glow)
    far = _hills(
        rng, y, rng.uniform(6, 40), c.dark if sky != c.light else c.deep, rng.choice([3, 6, 9])
    )
    field = _rect(0, y, 200, 300 - y, c.mid)
    lane = _area(f"{x - 2:.4g} {y:.4g}h4L185 300H15", c.dark)
    return Scene(_sheet(sky) + sun + far + field + lane + marks, ground, "top")


def profiles(rng: random.Random, c: Colours) -> Scene:
    """A face in profile, or two that look at each other."""
    face = "0 20C46 18 74 44 76 84L90 112L79 119L83 130L76 137L80 150C76 168 50 170 42 176L46 232H0"
    sky, one, two = rng.choice([(c.accent, c.dark, c.deep), (c.light, c.deep, c.accent),
                                (c.mid, c.dark, c.light)])  # fmt: skip
    left = _area(face, one, f' transform="translate(0 {rng.uniform(0, 16):.3g})"')
    turn = f' transform="matrix(-1 0 0 1 200 {rng.uniform(0, 16):.3g})"'
    other = rng.randrange(3)
    right = _area(face, two, turn)
    if other == 1:
        right = _disc(rng.uniform(125, 165), rng.uniform(40, 160), rng.uniform(16, 36), two)
    elif other == 2:  # a thought
        right = _disc(30, 78, 26, sky) + _disc(30, 78, rng.uniform(6, 20), two)
    return Scene(_sheet(sky) + left + right + _rect(0, 218, 200, 82, one), one)


def sea(rng: random.Random, c: Colours) -> Scene:
    """Bands of water under a bright disc, perhaps a boat."""
    level, count = rng.uniform(105, 165), rng.choice([2, 3, 4, 5])
    x, radius = rng.uniform(60, 140), rng.uniform(18, 50)
    parts = [_sheet("url(#s)"), _disc(x, level - radius * rng.choice([0.1, 1.4]), radius, c.light)]
    tones = [c.mid, c.deep] if rng.random() < 0.6 else [c.deep, c.accent]
    swell, boat = rng.choice([0, 4, 8]), rng.randrange(2 * count)
    for band in range(count + 1):
        y = level + band * (217 - level) / count
        fill = c.dark if band == count else tones[band % 2]
        parts.append(_area(f"-10 {y:.4g}q15 {-swell} 30 0{'t33.3 0' * 7}V300H-10", fill))
        if band == boat < count:
            left = rng.uniform(40, 150)
            parts.append(_area(f"{left:.4g} {y + 6:.4g}h26l-6 8h-15zm12 -3v-26l12 22", c.light))
        if swell == 0 and band < count:
            half = radius / (band + 1.3)  # the reflection
            parts.append(_rect(round(x - half, 1), round(y + 6, 1), round(2 * half, 1), 3, c.light))
    return Scene("".join(parts), c.dark)


def city(rng: random.Random, c: Colours) -> Scene:
    """Towers with lit windows."""
    parts = [_sheet("url(#s)"), _disc(rng.uniform(40, 160), rng.uniform(95, 120), 17, c.light)]
    for layer, tone in enumerate((c.deep, c.dark)):
        x = -6.0
        while x < 200:
            wide, top = rng.uniform(18, 38), rng.uniform(130, 215) + layer * 32
            parts.append(_rect(round(x, 1), round(top), round(wide, 1), 300 - round(top), tone))
            lights = [(rng.uniform(3, wide - 6), rng.uniform(6, 60)) for _ in range(3 * layer)]
            parts += [_rect(round(x + a), round(top + b), 4, 5, c.accent) for a, b in lights]
            x += wide + 1
    return Scene("".join(parts), c.deep, "top")


def forest(rng: random.Random, c: Colours) -> Scene:
    """Trunks, and something small and bright between them."""
    parts = [_sheet(c.mid), _disc(100, 120, 60, c.light, ' opacity=".35"')]
    for count, tone, width in ((9, c.deep, 8), (6, c.dark, 15)):
        for number in range(count):
            x = 200 * number / count + rng.uniform(0, 14)
            lean, wide = rng.uniform(-8, 8), rng.uniform(0.5, 1) * width
            parts.append(_area(f"{x:.4g} 0h{wide:.3g}l{lean + 3:.3g} 300h{-wide - 6:.3g}", tone))
        if tone == c.deep:
            parts.append(_figure(rng.uniform(70, 130), 222, rng.uniform(44, 70), c.accent, 0.36))
    return Scene("".join(parts) + _rect(0, 216, 200, 84, c.dark), c.dark)


def orbits(rng: random.Random, c: Colours) -> Scene:
    """Rings around a body that is larger than the sheet, or not."""
    x, y = rng.uniform(30, 170), rng.uniform(60, 150)
    parts = [_sheet(c.dark)]
    parts += [
        _disc(rng.uniform(4, 196), rng.uniform(4, 214), rng.choice([0.6, 0.9, 1.3]), c.light)
        for _ in range(16)
    ]
    step = rng.uniform(15, 24)
    for ring in range(1, 6):
        parts.append(_disc(x, y, 22 + ring * step, "none", f' stroke="{c.mid}" stroke-width=".8"'))
        angle = rng.uniform(0, 6.28)
        radius = 22 + ring * step
        parts.append(_disc(x + radius * math.cos(angle), y + radius * math.sin(angle),
                           rng.uniform(2, 7), rng.choice([c.accent, c.light, c.deep])))  # fmt: skip
    return Scene("".join(parts) + _disc(x, y, rng.uniform(20, 38), c.accent), c.dark)


def stairs(rng: random.Random, c: Colours) -> Scene:
    """Steps up to the light."""
    count = rng.choice([5, 6, 8])
    rise, tread = 150 / count, 200 / count
    steps = "".join(f"v{-rise:.4g}h{tread:.4g}" for _ in range(count))
    beam = _area("200 0L120 0L-40 240L120 240", c.light, ' opacity=".3"')
    flip = ' transform="matrix(-1 0 0 1 200 0)"' if rng.random() < 0.5 else ""
    climber = rng.randrange(1, count - 1)
    person = _figure((climber + 0.5) * tread, 226 - (climber + 1) * rise, 46, c.dark)
    drawn = f"<g{flip}>{beam}{person}{_area(f'0 226{steps}V300H0', c.deep)}</g>"
    return Scene(_sheet(c.accent) + drawn + _rect(0, 226, 200, 74, c.deep), c.deep)


def eye(rng: random.Random, c: Colours) -> Scene:
    """One eye, wide open."""
    y, lid = rng.uniform(100, 128), rng.uniform(44, 74)
    sky = rng.choice([c.deep, c.accent, c.dark])
    iris = c.accent if sky != c.accent else c.deep
    almond = _area(
        f"10 {y:.4g}Q100 {y - 2 * lid:.4g} 190 {y:.4g}Q100 {y + 2 * lid:.4g} 10 {y:.4g}", c.light
    )
    rays = "".join(
        f'<path d="M{100 + 62 * math.cos(a):.4g} {y - (lid + 12) * abs(math.sin(a)) - 4:.4g}'
        f'L{100 + 88 * math.cos(a):.4g} {y - (lid + 34) * abs(math.sin(a)) - 8:.4g}" '
        f'stroke="{c.light}" stroke-width="3"/>'
        for a in (0.5, 0.85, 1.2, 1.57, 1.94, 2.29, 2.64)
    )
    pupil = _disc(100, y, lid * 0.62, iris) + _disc(100, y, lid * 0.32, c.dark)
    return Scene(_sheet(sky) + rays + almond + pupil + _disc(108, y - 9, 5, c.light), sky)


def rays(rng: random.Random, c: Colours) -> Scene:
    """A burst behind a shape."""
    x, y, count = rng.uniform(70, 130), rng.uniform(95, 135), rng.choice([9, 12, 16])
    one, two = rng.choice([(c.accent, c.light), (c.mid, c.light), (c.deep, c.accent)])
    wedges = []
    for number in range(count):
        a, b = (math.tau * (number + half) / count for half in (0.0, 0.5))
        wedges.append(f"M{x:.4g} {y:.4g}L{x + 330 * math.cos(a):.4g} {y + 330 * math.sin(a):.4g}"
                      f"L{x + 330 * math.cos(b):.4g} {y + 330 * math.sin(b):.4g}Z")  # fmt: skip
    burst = f'<path d="{"".join(wedges)}" fill="{two}"/>'
    star = "L".join(
        f"{x + r * math.cos(a):.4g} {y + r * math.sin(a):.4g}"
        for a, r in ((i * math.pi / 5 - 1.571, 50 if i % 2 == 0 else 21) for i in range(10))
    )
    shape = rng.choice([
        _area(star, c.dark), _disc(x, y, rng.uniform(26, 48), c.dark),
        _figure(x, 226, rng.uniform(90, 130), c.dark),
    ])  # fmt: skip
    return Scene(_sheet(one) + burst + shape + _rect(0, 220, 200, 80, c.dark), c.dark)


def type_only(rng: random.Random, c: Colours) -> Scene:
    """Blocks of colour that leave the sheet to the title."""
    sky, bar = rng.choice([(c.accent, c.dark), (c.light, c.accent), (c.dark, c.accent),
                           (c.deep, c.mid)])  # fmt: skip
    kind, size = rng.randrange(5), rng.choice([12, 26, 58])
    if kind == 0:
        mark = _rect(0, 282 - size, 200, size, bar)
    elif kind == 1:
        mark = _disc(rng.choice([0, 100, 200]), 290, 34 + size, bar)
    elif kind == 2:
        mark = _area(f"0 300V{262 - size}L200 {296 - size}V300", bar)
    elif kind == 3:
        mark = "".join(_rect(14, y, 172 - i * 44, 5, bar) for i, y in enumerate((250, 262, 274)))
    else:
        mark = "".join(
            _disc(26 + 37 * (i % 5), 236 + 24 * (i // 5), rng.choice([4, 8, 11]), bar)
            for i in range(15)
        )
    return Scene(_sheet(sky) + mark, sky, "full")


SCENES: dict[str, Callable[[random.Random, Colours], Scene]] = {
    "horizon": horizon, "silhouette": silhouette, "mosaic": mosaic, "windows": windows,
    "road": road, "profiles": profiles, "sea": sea, "city": city, "forest": forest,
    "orbits": orbits, "stairs": stairs, "eye": eye, "rays": rays, "type_only": type_only,
}  # fmt: skip
