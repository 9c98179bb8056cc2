"""`litscope report`: a run, a search or a cross-validation as one HTML file. No torch."""

from __future__ import annotations

from pathlib import Path

from litscope.commands.line import make_parser, parse, show_json, stdout_for_result, write
from litscope.console import warn
from litscope.errors import ConfigError


def report(argv: list[str]) -> int:
    """Write a run, a search or a cross-validation as one HTML file that opens without a network."""
    parser = make_parser(report)
    parser.add_argument("run", metavar="RUN", help="the folder of a run, or of what tune or cv has left")
    parser.add_argument("--output", type=Path, metavar="FILE.html", help="default: report.html in RUN")
    given, as_json = parse(parser, argv)
    with stdout_for_result() as out:
        from litscope.rundir import RunDir, whole_file
        from litscope.studio.report.report import report as made

        output: Path | None = given["output"]
        if output is not None and (output.is_dir() or output.suffix.lower() not in (".html", ".htm")):
            raise ConfigError(f"--output {output}: it is a file whose name ends in .html.")
        found = made(given["run"])
        path, content = output or RunDir(found.folder).report, found.to_bytes()
        try:
            with whole_file(path) as file:
                file.write(content)
        except OSError as error:
            hint = " Give another place: --output FILE.html." if output is None else ""
            raise ConfigError(f"{path} cannot be written: {error.strerror or error}.{hint}") from error
        for sentence in found.missing:
            warn(f"not in the report: {sentence}")
    if as_json:
        facts = {"report": str(path), "kind": found.kind, "size_bytes": len(content), "missing": found.missing}
        show_json(facts, out, found.folder)
    else:
        write(f"report: {path}", out)
    return 0
