"""The report of a device check."""

from pathlib import Path

from mmwf.analysis.throughput import add_ratios
from mmwf.files import write_json, write_text

MARKS = {'passed': 'ok', 'failed': '**FAILED**', 'skipped': 'skipped'}


def _format(value) -> str:
    if isinstance(value, float):
        return f'{value:.3g}'
    return '' if value is None else str(value)


def _table(header: list[str], rows: list[list]) -> list[str]:
    lines = [f'| {" | ".join(header)} |', '|---' * len(header) + '|']
    return lines + [f'| {" | ".join(map(_format, row))} |' for row in rows]


def _speed_table(rows: list[dict]) -> list[str]:
    """Formats throughput and memory; ratios are to the first model in the same setting."""
    cells = []
    keys = ('size', 'mode', 'compiled')
    for setting in dict.fromkeys(tuple(row[key] for key in keys) for row in rows):
        group = [row for row in rows if tuple(row[key] for key in keys) == setting]
        add_ratios(group)
        for row in group:
            cells.append(
                [
                    *setting,
                    row['batch_size'],
                    row['model'],
                    row.get('error') or row.get('images_per_second'),
                    row.get('speed_ratio'),
                    row.get('memory_per_image_mib'),
                    row.get('memory_ratio'),
                ]
            )
    header = ['size', 'mode', 'compiled', 'batch', 'model', 'images/s', 'ratio', 'MiB per image']
    return _table([*header, 'ratio'], cells)


def format_report(results: dict) -> str:
    """Formats the results of all sections as markdown.

    Args:
        results: The content of ``report.json``.
    """
    checks = [check for section in results['sections'].values() for check in section['checks']]
    counts = {status: sum(c['status'] == status for c in checks) for status in MARKS}
    environment = results['sections'].get('environment', {}).get('info', {})
    lines = [
        '# Device check',
        '',
        f'{environment.get("device", results["device"])}, {results["date"]}, '
        f'{results["seconds"]:.0f} s: {counts["passed"]} checks passed, {counts["failed"]} failed, '
        f'{counts["skipped"]} skipped.',
    ]
    if results['device'] == 'cpu':
        lines += ['', 'There is no GPU here: everything ran on the CPU at toy size.']
    for name, section in results['sections'].items():
        lines += ['', f'## {name} ({section["seconds"]:.0f} s)', '']
        if section.get('error'):
            lines += ['**FAILED**, last lines of the log:', '', '```', section['error'], '```', '']
        if section['info']:
            lines += _table(['', ''], [[key, value] for key, value in section['info'].items()])
            lines.append('')
        if section['checks']:
            rows = [
                [c['name'], MARKS[c['status']], c['measured'], c['bound']]
                for c in section['checks']
            ]
            lines += _table(['check', 'result', 'measured', 'bound'], rows)
        for title, rows in section['tables'].items():
            lines.append('')
            if title == 'speed':
                lines += _speed_table(rows)
            else:
                keys = list(dict.fromkeys(key for row in rows for key in row))
                lines += _table(keys, [[row.get(key) for key in keys] for row in rows])
    return '\n'.join(lines) + '\n'


def write_report(results: dict, out: Path) -> None:
    """Writes ``report.json`` and ``report.md``."""
    write_json(out / 'report.json', results)
    write_text(out / 'report.md', format_report(results))
