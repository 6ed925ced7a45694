"""Which axis is which: what the file says, what the user says, and what is refused."""

from __future__ import annotations

from napari_ips.errors import IPSError

_NAMED = {"T": "time points", "C": "channels", "P": "positions"}
_EXPLAINED = "Z slices, Y, X, S colours, T time, C channels, P positions"


def letters_by_shape(shape: tuple[int, ...]) -> str:
    """Return the letters of an array without any names.

    The last two axes are the image, after them colours where the last of three or more
    axes has length 3 or 4; what comes before is unknown.
    """
    colour = len(shape) > 2 and shape[-1] in (3, 4)
    return ("YXS" if colour else "YX").rjust(len(shape), "Q")


def settle_axes(
    name: str,
    shape: tuple[int, ...],
    told: str,
    axes: str | None = None,
    z_axis: int | None = None,
) -> str:
    """Decide what each axis is, or refuse.

    One unknown axis is taken for the slices, unless the last axis is the shortest of
    the three: then that one may hold them as well.

    Parameters
    ----------
    name : str
        Of the file, for messages.
    shape : tuple of int
    told : str
        What the file says; Q for what it does not say.
    axes : str, optional
        What the user says instead, one letter per axis.
    z_axis : int, optional
        Or only which axis holds the slices.

    Returns
    -------
    str
        One letter per axis, Z, Y and X among them; Q only for axes of length one.

    Raises
    ------
    IPSError
        If the axes do not fit, are unclear, or there is no z axis.
    """
    letters = told if axes is None else axes.upper()
    _check_letters(name, letters, shape)
    if z_axis is not None:
        letters = _with_z_at(name, letters, shape, z_axis)
    where = f"{name}, shape {shape}, axes {letters.replace('Q', '?')}"
    _check_sizes(where, letters, shape)
    unknown = [n for n, a in enumerate(letters) if a == "Q" and shape[n] > 1]
    if len(unknown) == 1 and "Z" not in letters and not _named(letters, shape):
        (z,) = unknown
        _refuse_if_last_is_shortest(where, letters, shape, z)
        letters = _with(letters, z, "Z")
    elif unknown:
        raise IPSError(
            f"Which axis is which is not clear ({where}); pass one letter for each, such "
            f"as --axes {_suggested(letters)} ({_EXPLAINED})."
        )
    if "Z" not in letters:
        _refuse_without_z(where, letters, shape)
    return letters


def _check_letters(name: str, letters: str, shape: tuple[int, ...]) -> None:
    known = len(letters) == len(shape) and set(letters) <= set("PTCZYXSQ")
    twice = any(letters.count(letter) > 1 for letter in "PTCZYXS")
    if not known or twice or not {"Y", "X"} <= set(letters):
        raise IPSError(
            f"{name} has the shape {shape}, to which the axes {letters!r} do not fit; "
            f"give one letter for each, Y and X among them ({_EXPLAINED})."
        )


def _check_sizes(where: str, letters: str, shape: tuple[int, ...]) -> None:
    if 0 in shape:
        raise IPSError(f"There is nothing in it ({where}).")
    samples = shape[letters.index("S")] if "S" in letters else 1
    if samples > 4:
        raise IPSError(
            f"{samples} colours per pixel are too many ({where}); if they are the slices, "
            f"pass --axes {letters.replace('Z', 'T').replace('S', 'Z')}."
        )


def _with_z_at(name: str, letters: str, shape: tuple[int, ...], z_axis: int) -> str:
    """Rename the axes so that the one numbered `z_axis` is Z."""
    if not -len(shape) <= z_axis < len(shape):
        raise IPSError(f"{name} has no axis {z_axis}: its shape is {shape}.")
    z_axis %= len(shape)
    renamed = list(letters.replace("Z", "Q"))
    renamed[z_axis] = "Z"
    if not {"Y", "X"} <= set(renamed):
        # The slices lie along what passed for Y or X: the other two are the image.
        plane = [n for n in range(len(shape)) if n != z_axis and shape[n] > 1]
        if len(plane) == 3 and renamed[plane[2]] == "S":
            plane.pop()
        if len(plane) != 2:
            raise IPSError(f"With the z axis {z_axis}, the shape {shape} is not a stack.")
        for n in range(len(shape)):
            if n != z_axis and renamed[n] in "YX":
                renamed[n] = "Q"
        renamed[plane[0]], renamed[plane[1]] = "Y", "X"
    return "".join(renamed)


def _named(letters: str, shape: tuple[int, ...]) -> list[int]:
    """Return the axes of time, channels and positions that are longer than one."""
    return [n for n, letter in enumerate(letters) if letter in _NAMED and shape[n] > 1]


def _refuse_if_last_is_shortest(
    where: str, letters: str, shape: tuple[int, ...], z: int
) -> None:
    y, x = letters.index("Y"), letters.index("X")
    if shape[x] < min(shape[y], shape[z]):
        last = _with(_with(_with(letters, z, "Y"), y, "X"), x, "Z")
        raise IPSError(
            f"Whether the slices lie along the first or the last axis is not clear "
            f"({where}); pass --axes {_suggested(_with(letters, z, 'Z'))} or --axes "
            f"{_suggested(last)}."
        )


def _refuse_without_z(where: str, letters: str, shape: tuple[int, ...]) -> None:
    named = _named(letters, shape)
    if named:
        n = named[-1]
        chosen = _with(letters, n, "Z")
        raise IPSError(
            f"This has {shape[n]} {_NAMED[letters[n]]} but no z axis ({where}); if those "
            f"are the slices, pass --axes {chosen} or --z-axis {n}."
        )
    advice = ""
    if "S" in letters:
        chosen = letters.replace("S", "Z")
        advice = f"; if its colours are the slices, pass --axes {chosen}"
    raise IPSError(
        f"A stack needs at least two slices, but this is one image ({where}){advice}."
    )


def _with(letters: str, n: int, letter: str) -> str:
    return letters[:n] + letter + letters[n + 1 :]


def _suggested(letters: str) -> str:
    """Fill in what is unknown: the slices innermost, then channels, time, positions."""
    free = [letter for letter in "ZCTP" if letter not in letters]
    filled = [(free.pop(0) if free else "Q") if a == "Q" else a for a in letters[::-1]]
    return "".join(filled[::-1])
