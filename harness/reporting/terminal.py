"""Prints the lines of an answer on a terminal or into a pipe."""

from collections.abc import Iterable

from rich.text import Text

from harness.reporting.terminal_console import PlainConsole


class AnswerConsole(PlainConsole):
    """A console that does not break lines and does not interpret markup."""

    def __init__(self) -> None:
        super().__init__(highlight=False)

    def say(self, text: str, style: str = "") -> None:
        """Print one line without breaking it."""
        self.print(Text(text, style=style), soft_wrap=True)

    def say_all(self, texts: Iterable[str], before: str = "note: ") -> None:
        """Print one line for each text, with the prefix ``before``."""
        for text in texts:
            self.say(f"{before}{text}")
