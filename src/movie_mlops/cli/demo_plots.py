"""Small plots of the demo, in characters."""

from collections.abc import Sequence

from movie_mlops.cli.demo_people import Visit

_EIGHTHS = " ▏▎▍▌▋▊▉█"
_HEIGHTS = "▁▂▃▄▅▆▇█"
_WIDTH = 30


def bar(value: float, top: float, width: int = _WIDTH) -> str:
    """A horizontal bar, `width` characters at `top`."""
    eighths = round(8 * width * min(max(value / top, 0.0), 1.0))
    return ("█" * (eighths // 8) + _EIGHTHS[eighths % 8]).strip()


def drift_lines(features: Sequence[dict[str, object]]) -> list[str]:
    """Each feature's larger distance as a multiple of its bound, which is marked."""
    rows = []
    for feature in features:
        measures: list[dict[str, float]] = feature["measures"]  # type: ignore[assignment]
        times = max(one["value"] / max(one["threshold"], 1e-9) for one in measures)
        rows.append((times, str(feature["name"])))
    top = max([times for times, _ in rows] + [1.5])
    mark = round(_WIDTH / top)
    lines = []
    for times, name in sorted(rows, reverse=True):
        drawn = bar(times, top).ljust(_WIDTH + 1)
        if drawn[mark] == " ":
            drawn = drawn[:mark] + "┊" + drawn[mark + 1 :]
        colour, end = ("[red]", "[/]") if times > 1 else ("", "")
        lines.append(f"{name:<18} {colour}{drawn}{end} {times:5.2f}")
    return [*lines, f"{'':<18} {'':<{mark}}┊ 1 = the bound: beyond it is drift"]


def share_lines(visits: Sequence[Visit], columns: int = 48) -> list[str]:
    """For each version the share of lists with a watched film, in the order of time."""
    size = max(-(-len(visits) // columns), 1)
    parts = [visits[at : at + size] for at in range(0, len(visits), size)]
    lines = []
    for version in sorted({visit.version for visit in visits}, key=int):
        drawn = ""
        for part in parts:
            mine = [visit.watched for visit in part if visit.version == version]
            # a handful tells nothing
            drawn += _HEIGHTS[round(7 * sum(mine) / len(mine))] if len(mine) > 3 else " "
        of = [visit.watched for visit in visits if visit.version == version]
        lines.append(f"v{version}  {drawn:<{columns}} {sum(of) / len(of):4.0%} of {len(of)} lists")
    return lines
