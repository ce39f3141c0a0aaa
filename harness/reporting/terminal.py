"""Consoles that escape control characters in text from files and from other programs."""

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from harness.schema.plain_text import printable


class PlainConsole(Console):
    """A rich console that escapes control characters in its text, and keeps its own styles."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Yield the segments of ``renderable``, with escaped control characters."""
        for segment in super().render(renderable, options):
            if segment.control or (segment.text.isascii() and segment.text.isprintable()):
                yield segment
            else:
                yield Segment(printable(segment.text), segment.style)


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
