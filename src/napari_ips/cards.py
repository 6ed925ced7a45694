"""What the card of weights says, in words for people."""

from __future__ import annotations

from datetime import UTC, datetime

from napari_ips.weights import card_numbers

_SOURCES_TOLD = 3


def describe_card(card: dict[str, str]) -> str:
    """Tell in a few plain lines what a card says, each with its subject first."""
    return "\n".join(f"{subject}: {words}" for subject, words in card_facts(card).items())


def card_facts(card: dict[str, str]) -> dict[str, str]:
    """Tell what a card says in words for people, each in one line, by subject.

    Cards of older versions and other programs may lack anything, or hold nonsense: what
    is missing or cannot be understood is left out.
    """
    parsed = card_numbers(card)
    told = {
        "Trained on": _trained_on(parsed),
        "Sources": _sources(parsed),
        "Length": _length(parsed),
        "Made": _made(card),
        "Preset": _plain(card.get("preset", "")),
        "Started from": _started_from(card, parsed),
        "Teacher": _plain(card.get("teacher", "")),
        "Validation": _validation(parsed),
        "Notes": _plain(card.get("notes", "")),
        "Licence": _plain(card.get("licence", "")),
    }
    return {subject: words for subject, words in told.items() if words}


def _plain(text: object) -> str:
    """Put text into one line, without what could command a terminal."""
    words = " ".join(str(text).split())
    return "".join(character for character in words if character.isprintable())


def _number(value: object, form: str, unit: float = 1.0) -> str:
    """Write a number in units, and anything else as nothing."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    try:
        return format(value / unit, form)
    except OverflowError:
        return ""


def _table(parsed: dict[str, object], key: str) -> dict[str, object]:
    value = parsed.get(key)
    return value if isinstance(value, dict) else {}


def _trained_on(parsed: dict[str, object]) -> str:
    told = _table(parsed, "training_set")
    images = _number(told.get("images"), ".0f")
    if not images:
        return ""
    pixels = _number(told.get("pixels"), ".3g", 1e6)
    dtypes = _plain(", ".join(_table(told, "dtypes")))
    parts = [f"{images} image{'s' * (images != '1')}"]
    parts += [f"{pixels} million pixels"] if pixels else []
    parts += [dtypes] if dtypes else []
    return ", ".join(parts)


def _sources(parsed: dict[str, object]) -> str:
    names = parsed.get("sources")
    if not isinstance(names, list) or not names:
        return ""
    told = ", ".join(_plain(name) for name in names[:_SOURCES_TOLD])
    more = len(names) - _SOURCES_TOLD
    return f"{told} and {more} more" if more > 0 else told


def _length(parsed: dict[str, object]) -> str:
    steps = _number(parsed.get("iterations"), ".0f")
    minutes = _number(parsed.get("training_minutes"), ".3g")
    parts = [f"{steps} steps"] if steps else []
    parts += [f"{minutes} minutes"] if minutes else []
    early = {"asked": "ended early by hand", "diverged": "ended early, the loss diverged"}
    reason = early.get(str(parsed.get("reason")))
    return ", ".join([*parts, reason] if reason else parts)


def _made(card: dict[str, str]) -> str:
    date = card.get("date", "")
    try:
        return f"{datetime.fromisoformat(date).astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    except (ValueError, OverflowError):
        return _plain(date)


def _started_from(card: dict[str, str], parsed: dict[str, object]) -> str:
    told = card.get("start_from") or _table(parsed, "settings").get("start_from")
    return _plain(told or "")


def _validation(parsed: dict[str, object]) -> str:
    after, before = _table(parsed, "validation"), _table(parsed, "validation_before")
    kinds = (("psnr", "PSNR", ".2f", " dB"), ("ssim", "SSIM", ".4f", ""))
    parts = []
    for key, title, form, unit in kinds:
        now, then = _number(after.get(key), form), _number(before.get(key), form)
        if now:
            parts.append(f"{title} {f'{then} -> ' if then else ''}{now}{unit}")
    return ", ".join(parts)
