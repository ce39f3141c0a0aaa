"""Lines of a report on a terminal, which also read well through a pipe."""

from collections.abc import Iterable

from rich.text import Text

from harness.reporting.terminal_console import PlainConsole


class AnswerConsole(PlainConsole):
    """A console that does not break lines and does not interpret markup."""

    def __init__(self) -> None:
        super().__init__(highlight=False)

    def say(self, text: str, style: str = "") -> None:
        """Print one line, which is not broken."""
        self.print(Text(text, style=style), soft_wrap=True)

    def say_all(self, texts: Iterable[str], before: str = "note: ") -> None:
        """Print a line for each text, after the words ``before``."""
        for text in texts:
            self.say(f"{before}{text}")
