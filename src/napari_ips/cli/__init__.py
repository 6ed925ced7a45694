"""The command ``napari-ips``.

Only typer and rich are imported here: ``--help`` must come at once, so each command
imports what it needs when it runs.
"""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from napari_ips.cli.bench import bench
from napari_ips.cli.benchmark import benchmark
from napari_ips.cli.common import Stopped, problem
from napari_ips.cli.demo import demo
from napari_ips.cli.fuse import fuse
from napari_ips.cli.info import info
from napari_ips.cli.progress import warnings_as_lines
from napari_ips.cli.simulate import simulate
from napari_ips.cli.train import train
from napari_ips.cli.weights import EXAMPLES as WEIGHTS_EXAMPLES
from napari_ips.cli.weights import app as weights_app
from napari_ips.errors import IPSError

INTERRUPTED = 130

# Read by OpenMP when PyTorch loads it: its threads sleep while they wait, where they
# would spin and slow everything down on a machine that has other work as well.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

app = typer.Typer(
    name="napari-ips",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with [bold]napari-ips demo[/], then "
    "[bold]napari-ips fuse stack.tif -o fused.tif[/]. "
    "Every command has its own [bold]--help[/] with examples.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from napari_ips import __version__

        typer.echo(__version__)
        raise typer.Exit()


@app.callback()
def _napari_ips(
    debug: Annotated[
        bool,
        typer.Option("--debug", help="Show the traceback of an error (anywhere)."),
    ] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_print_version, help="Show the version."
        ),
    ] = False,
) -> None:
    """Make one all-in-focus image of a z-stack, with a network that learned by itself."""


for _command in (demo, fuse, train, benchmark, bench, simulate, info):
    _epilog = getattr(sys.modules[_command.__module__], "EXAMPLES", None)
    app.command(epilog=_epilog)(_command)
app.add_typer(
    weights_app,
    name="weights",
    epilog=WEIGHTS_EXAMPLES,
    help="List, describe and manage weights, your own and the bundled ones.",
)


def main() -> None:
    """Run the command line of this process and exit with its code."""
    warnings.formatwarning = lambda message, *_, **__: f"Warning: {message}\n"
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command line; whatever goes wrong becomes one line on stderr.

    Returns
    -------
    int
        0 on success, 1 on an error, 2 for a command line that cannot be understood,
        130 when stopped by Ctrl-C.
    """
    arguments, debug = _without_debug(arguments)
    try:
        # typer.Exit comes back as a number, and so does Ctrl-C (130).
        with warnings_as_lines():
            code = app(args=arguments, prog_name="napari-ips", standalone_mode=False) or 0
        if code == INTERRUPTED:
            problem("Stopped.")
        return int(code)
    except (KeyboardInterrupt, typer.Abort, Stopped) as stop:
        problem(str(stop) or "Stopped.")
        return INTERRUPTED
    except Exception as error:
        if debug:
            traceback.print_exc()
        return _explain(error)


def _without_debug(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """Take ``--debug`` out, so that it may stand before or after the command."""
    split = arguments.index("--") if "--" in arguments else len(arguments)
    options = [item for item in arguments[:split] if item != "--debug"]
    return options + list(arguments[split:]), len(options) < split


def _explain(error: Exception) -> int:
    if isinstance(error, IPSError):
        problem(f"Error: {error}")
        return 1
    if hasattr(error, "format_message"):
        return _explain_usage(error)
    text = str(error).strip().splitlines()
    kind = type(error).__name__ + (f": {text[0]}" if text else "")
    problem(f"Unexpected {kind}; run again with --debug and report it.")
    return 1


def _explain_usage(error: Any) -> int:
    """Explain an error in the command line itself (its class is not public in typer)."""
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
    else:
        hint = f" Try '{context.command_path} --help'." if context else ""
        problem(f"Error: {error.format_message()}{hint}")
    return int(error.exit_code)
