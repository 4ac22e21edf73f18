"""What a diagnosis says."""

from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Finding:
    """One thing in a model that some methods would not see, or take for something else."""

    kind: str  # "functional activation", "reused module", "sum of branches", ...
    where: str  # a module's path, or file:line of the model's forward
    what: str  # in a few words
    affects: tuple[str, ...]  # the methods that it would make wrong; empty: none, good to know
    fix: str  # what the user can do
    mended: bool  # the repaired copy is free of it

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """All findings on one model, and a copy of it on which rule-based methods are right, or why there is none."""

    model: str  # its class
    findings: tuple[Finding, ...]
    repaired: nn.Module | None  # computes what the model computes
    reason: str | None  # why there is no repaired copy

    @property
    def healthy(self) -> bool:
        """Whether every method is right on the model as it is."""
        return not any(finding.affects for finding in self.findings)

    def against(self, method: str, *, repaired: bool = False) -> tuple[Finding, ...]:
        """The findings that make a method wrong on the model, or on its repaired copy."""
        return tuple(
            finding for finding in self.findings if method in finding.affects and not (repaired and finding.mended)
        )

    def __repr__(self) -> str:
        groups: dict[tuple[str, str], list[Finding]] = {}
        for finding in self.findings:
            groups.setdefault((finding.kind, finding.what), []).append(finding)
        state = "healthy" if self.healthy else f"{len(self.findings)} findings of {len(groups)} kinds"
        lines = [f"  {kind}: {what}. {_places(alike)} {_affected(alike[0])}" for (kind, what), alike in groups.items()]
        if self.findings:
            lines.append("  A repaired copy computes the same." if self.repaired else f"  No repair: {self.reason}.")
        return "\n".join([f"Diagnosis of {self.model}: {state}", *lines])


def _places(alike: list[Finding]) -> str:
    """Where findings of one kind are; the first three of many."""
    places = list(dict.fromkeys(finding.where for finding in alike))
    more = f" and {len(places) - 3} more places" if len(places) > 3 else ""
    return f"At {', '.join(places[:3])}{more}."


def _affected(finding: Finding) -> str:
    if not finding.affects:
        return finding.fix
    return f"Wrong: {', '.join(finding.affects)}. " + (
        "The repaired copy is free of it." if finding.mended else finding.fix
    )
