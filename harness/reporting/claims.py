"""Reads and writes ``claims.json``, which contains the claims of a run and their verdicts."""

import dataclasses
from pathlib import Path
from typing import TypeVar

import msgspec

from harness.reporting.document import Document, headline
from harness.schema.errors import HarnessError
from harness.schema.findings import Claim, Rule, Verdict, verdict_words
from harness.schema.unique_keys import read_json
from harness.version import PACKAGE

Written = TypeVar("Written")

CLAIMS = "claims.json"
REFERENCE = PACKAGE.parent / "results" / "reference-cpu"
"""Folder of the committed reference run, which exists only in a checkout of the repository."""
LITERATURE_REFERENCE = REFERENCE.parent / "literature"
"""Folder of the committed run that tests claims of the literature."""


class ReportFileError(HarnessError):
    """Raised if a folder has no report, or if a file of the report is invalid."""


class ClaimEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One claim, with the verdict that the records of the run give."""

    experiment: str
    topic: str
    claim: str
    sentence: str
    verdict: Verdict
    number: str
    measured: str
    open_reason: str = ""
    """Short reason why the claim is open; empty in files of older versions."""
    holds_for: str = ""
    fails_for: str = ""
    """Cases for which the claim fails; ``holds_for`` contains the cases for which it holds."""
    rule: Rule | None = None
    second: str = ""
    """Independent second source of the number that decides the claim, or why there is none."""
    matters: str = ""
    control: str = ""
    history: str = ""
    """Origin of the limit in ``rule``, and commits that changed the rule; empty in older files."""

    @property
    def words(self) -> str:
        """Verdict in words, with the cases for which the claim holds or fails."""
        return verdict_words(self.verdict, self.holds_for, self.fails_for)

    @property
    def key(self) -> tuple[str, str]:
        """Key that is equal for the same claim in different runs."""
        return self.experiment, self.sentence


class Claims(msgspec.Struct, frozen=True, kw_only=True):
    """All claims of a run, with the question of the report and the answer."""

    question: str
    answer: list[str]
    lead: str
    """Name of the experiment that answers the question of the report."""
    claims: list[ClaimEntry]


_AS_JUDGED = {one.name for one in dataclasses.fields(Claim)} & {*ClaimEntry.__struct_fields__} - {
    "history"
}


def claims_of(report: Document) -> Claims:
    """Return the claims of ``report``, in reading order."""
    return Claims(
        question=report.title,
        answer=[first + rest for first, rest in report.summary],
        lead=report.main.name if report.main else "",
        claims=[
            ClaimEntry(
                experiment=part.name,
                topic=part.title,
                claim=headline(claim),
                **{name: getattr(claim, name) for name in _AS_JUDGED},
                history=str(claim.history or ""),
            )
            for part, claim in report.claims
        ],
    )


def claims_json(claims: Claims) -> bytes:
    """Return the content of ``claims.json``."""
    return msgspec.json.format(msgspec.json.encode(claims), indent=1) + b"\n"


def read_claims(folder: Path) -> Claims:
    """Return the claims of the report in ``folder``."""
    return read_written(folder / CLAIMS, Claims)


def read_written(path: Path, kind: type[Written]) -> Written:
    """Read a JSON file that ``harness report`` wrote."""
    try:
        text = path.read_bytes()
        read_json(text)  # no key is there twice
        return msgspec.json.decode(text, type=kind)
    except FileNotFoundError:
        rule = f"no {path.name} here; write the report first: harness report {path.parent}"
        raise ReportFileError(f"{path.parent}: {rule}") from None
    except (OSError, ValueError) as error:  # msgspec's errors too
        raise ReportFileError(f"{path}: {error}") from error
