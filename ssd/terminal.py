"""Tables on the terminal."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table


def table_text(table: "Table") -> str:
    """As wide as the terminal, coloured where it is one; without the last line break."""
    from rich.console import Console

    console = Console()
    with console.capture() as captured:
        console.print(table)
    return captured.get().rstrip("\n")
