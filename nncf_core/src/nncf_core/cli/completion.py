"""``nncf completion``."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

_SHELLS = ("bash", "zsh", "fish")


@click.command("completion")
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what lets a shell complete commands, options and their values.

    \b
    Examples:
      echo 'eval "$(nncf completion bash)"' >> ~/.bashrc
      echo 'eval "$(nncf completion zsh)"' >> ~/.zshrc
      nncf completion fish > ~/.config/fish/completions/nncf.fish
    """
    found = get_completion_class(shell)
    assert found is not None
    script = found(context.find_root().command, {}, "nncf", "_NNCF_COMPLETE")
    # click asks the bash of this machine for its version, which need not be the one that will read this
    click.echo(click.shell_completion.ShellComplete.source(script))
