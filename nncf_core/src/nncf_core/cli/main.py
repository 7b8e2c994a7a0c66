"""The command group, and how errors reach the user."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import traceback
from contextlib import suppress
from typing import Any, NoReturn

import click

from nncf_core import __version__
from nncf_core.cli.compare import compare
from nncf_core.cli.completion import completion
from nncf_core.cli.compress import compress_weights, run
from nncf_core.cli.inspect import inspect
from nncf_core.cli.lock import reproduce
from nncf_core.cli.new_plugin import new_plugin
from nncf_core.cli.plugins import plugins
from nncf_core.cli.quantize import quantize
from nncf_core.process import own

FAILED, WRONG, INTERRUPTED = 1, 2, 130
"""Exit codes, see the help."""

_GARBAGE = 400_000
"""New objects between two searches for cycles; Python's own number is 700. Modules and a language model's graph are
three hundred thousand, none of them garbage, and one search among them takes as long as describing the model."""


def _exit_code(error: Exception) -> int:
    """What a command that ends with an error of ours exits with."""
    from nncf_core import errors

    failed = (
        errors.BufferFullError,
        errors.InternalError,
        errors.PluginError,
        errors.ValidationFunctionError,
        errors.VerificationError,
    )
    return FAILED if isinstance(error, failed) else WRONG


def _too_little(error: BaseException) -> str:
    """What is said where memory does not do."""
    reason = " ".join(str(error).split()).rstrip(".")
    shown = f": {reason}" if reason else ""
    return (
        f"there is not enough memory{shown}. No file was changed; raise the limit of the process, or of its container."
    )


class _Stopped(BaseException):
    """A signal ends the process; no code that is called takes it for an error, or an end, of its own.

    :param code: that the process exits with.
    """

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def _ended(leaving: SystemExit) -> str:
    """What is said where code of the user's, or of a plugin, ends the process."""
    (*_, last) = traceback.extract_tb(leaving.__traceback__)
    return (
        f"{last.filename}, line {last.lineno}, in {last.name}: SystemExit({leaving.code!r}) would have ended the "
        "command. Code that it calls must return, or raise an error that says what is wrong."
    )


class _Group(click.Group):
    """Turns the framework's own errors into one line, and Ctrl-C into a quiet end."""

    def invoke(self, ctx: click.Context) -> Any:
        from nncf_core.errors import NNCFError
        from nncf_core.memory import memory_error_behind

        try:
            return super().invoke(ctx)
        except (NNCFError, MemoryError, RuntimeError, ImportError, OSError, SystemError) as error:
            ours = isinstance(error, NNCFError)
            behind = memory_error_behind(error)
            if logging.getLogger("nncf").isEnabledFor(logging.DEBUG) or not (ours or behind):
                raise
            click.echo(f"nncf: error: {error if behind is None else _too_little(behind)}", err=True)
            ctx.exit(FAILED if behind is not None else _exit_code(error))
        except SystemExit as leaving:
            if logging.getLogger("nncf").isEnabledFor(logging.DEBUG):
                traceback.print_exception(leaving)
            click.echo(f"nncf: error: {_ended(leaving)}", err=True)
            ctx.exit(FAILED)
        except KeyboardInterrupt:
            click.echo("nncf: interrupted; no file was changed", err=True)
            ctx.exit(INTERRUPTED)


_EXITS = """\b
Exit codes:
  0    done
  1    the work failed, or its result is not accepted: verification, reproduction, comparison
  2    the command, its arguments, or the config or files that they name are wrong, or need what is not installed
  130  interrupted; 128 and the number of another signal that ended it
"""


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]}, epilog=_EXITS)
@click.version_option(__version__, "-V", "--version", prog_name="nncf")
@click.option("-v", "--verbose", is_flag=True, help="Show details, and tracebacks of errors.")
def main(verbose: bool) -> None:
    """Make neural networks smaller and faster.

    Models are files of any framework whose backend is installed; `nncf plugins` lists them.

    \b
    Examples:
      nncf compress-weights model.onnx -o small.onnx --mode int4_sym --group-size 64
      nncf compare model.onnx small.onnx --dataset samples.npz
      nncf reproduce small.onnx.lock.json
    """
    logger = logging.getLogger("nncf")
    logger.setLevel(logging.DEBUG if verbose else logging.WARNING)
    if not logger.handlers:
        logger.addHandler(logging.StreamHandler(sys.stderr))


for _command in (
    compress_weights,
    quantize,
    run,
    reproduce,
    compare,
    inspect,
    plugins,
    new_plugin,
    completion,
):
    _command.epilog = _EXITS
    main.add_command(_command)


def _leave(number: int, _frame: object) -> NoReturn:
    """End as after an error, so that temporary files go."""
    click.echo(f"nncf: stopped by {signal.Signals(number).name}; no file was changed", err=True)
    raise _Stopped(128 + number)


def entry() -> NoReturn:
    """Run the command line, and leave the process without tearing it down.

    Taking a large graph apart object by object takes a tenth of a second that nobody has any use for, and so does
    looking for cycles among objects that all live to the end.
    """
    # where the caller has closed one, files would take its number, and what is printed would go into them
    for stream in ("stdout", "stderr"):
        if getattr(sys, stream) is None:
            setattr(sys, stream, open(os.devnull, "w"))  # noqa: SIM115
    own()
    gc.set_threshold(_GARBAGE)
    code = 0
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:  # nohup ignores SIGHUP
            signal.signal(number, _leave)
    try:
        main(prog_name="nncf")
    except SystemExit as leaving:
        if leaving.code is not None and not isinstance(leaving.code, int):
            raise
        code = leaving.code or 0
    except _Stopped as stopped:
        code = stopped.code
    except OSError as error:  # of the standard output, for instance: files have errors of their own
        code = FAILED
        with suppress(OSError):
            sys.stderr.write(f"nncf: error: {error}\n")
    with suppress(OSError):  # nobody may be reading any more
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)
