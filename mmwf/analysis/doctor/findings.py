"""What the doctor finds, and its report."""

from collections.abc import Sequence
from dataclasses import dataclass

#: From harmless to serious. Only what is broken makes ``mmwf doctor`` exit with 1.
STATES = ('ok', 'note', 'warning', 'broken')


@dataclass(frozen=True)
class Finding:
    """One line of the diagnosis.

    Attributes:
        state: One of ``STATES``.
        subject: What it is about, such as ``'torchvision'``.
        detail: What was found.
        fix: The command or action that fixes it.
    """

    state: str
    subject: str
    detail: str
    fix: str = ''

    def __post_init__(self):
        if self.state not in STATES:
            raise ValueError(f'Expected state to be one of {STATES}, got {self.state!r}.')


def format_findings(findings: Sequence[Finding]) -> str:
    """Formats findings as a list, one line each, with the fix below."""
    width = max(len(finding.subject) for finding in findings)
    lines = []
    for finding in findings:
        mark = 'BROKEN' if finding.state == 'broken' else finding.state
        lines.append(f'{mark:<8} {finding.subject:<{width}}  {finding.detail}')
        if finding.fix:
            lines.append(f'{"":<8} {"":<{width}}  to mend it: {finding.fix}')
    return '\n'.join(lines)


def format_block(environment: dict[str, str], findings: Sequence[Finding]) -> str:
    """Formats the environment and all faults as a block of markdown, for a bug report."""
    lines = [f'{key}: {value}' for key, value in environment.items()]
    lines += [f'{f.state}: {f.subject}: {f.detail}' for f in findings if f.state in STATES[2:]]
    return '\n'.join(['```text', *lines, '```'])
