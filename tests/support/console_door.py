"""The console as a door of the studio: what a test asks becomes a line as a person types it."""

from __future__ import annotations

import json
from typing import Any

from doors import Refused

from litscope.studio.doors.console.session import Console
from litscope.studio.doors.console.typed import quoted
from litscope.studio.service import Studio

VERBS = {"page": "status", "samples": "list"}
POSITIONAL = ("filter", "names", "label", "by", "column", "runs", "sample_id", "split")
"""Arguments of the service that the console takes as words."""

NAMES = {"start": "from", "limit": "count"}
OPTIONS_OF_MAP = {"max_points": 10_000, "width": 128, "height": 128, "color": "is_right"}


class OfConsole:
    """Lines in, answers out; each answer is also shown as a person sees it."""

    def __init__(self, studio: Studio) -> None:
        self.studio, self.console = studio, Console(studio)

    def ask(self, what: str, run: str | None = None, **arguments: Any) -> Any:
        self._use(run)
        if what == "find":  # part of every verb about a sample
            return self.said(f"sample {quoted(arguments['name'])}")["sample"]["sample_id"]
        if what == "sql":
            return self.said(f"sql {arguments['query']}")
        words = [VERBS.get(what, what)]
        if what == "map":
            arguments = {**OPTIONS_OF_MAP, **arguments}
        positional = [name for name in POSITIONAL if name in arguments and not (what == "typical" and name == "split")]
        for name in sorted(positional, key=lambda name: name == "filter"):
            value = arguments.pop(name)
            words += [value] if name == "filter" else [quoted(str(one)) for one in _many(value)]
        for name, value in arguments.items():
            if name == "start":
                value += 1
            words += _option(NAMES.get(name, name), value)
        found = self.said(" ".join(words))
        if what == "map":
            return found["facts"]
        return [row["sample_id"] for row in found["rows"]] if what == "typical" else found

    def act(self, run: str, **asked: Any) -> Any:
        self._use(run)
        words = [asked.pop("what")]
        chosen = dict(asked.pop("samples", {}))
        if chosen.get("ranges"):
            chosen["rows"] = [f"{start + 1}-{end}" for start, end in chosen.pop("ranges")]
        if "filter" in chosen:
            chosen["where"] = chosen.pop("filter")
        if "ids" in chosen:
            chosen["id"] = chosen.pop("ids")
        if "label" in asked:
            asked["to"] = asked.pop("label")
        if "tag" in asked and words[0] != "evaluate":
            words.append(quoted(asked.pop("tag")))
        words += [f"{name}={value}" for name, value in asked.pop("settings", {}).items()]
        words += [asked.pop("action")] if "action" in asked else []
        for name, value in {**asked, **chosen}.items():
            words += _option(name, value)
        return self.said(" ".join(words))

    def said(self, line: str) -> Any:
        answered = self.console.answer(line)
        assert all(isinstance(one, str) for one in answered.lines())
        found = json.loads(json.dumps(answered.to_dict(), allow_nan=False))
        if found["error"] is not None:
            raise Refused(found["error"]["type"], found["error"]["message"])
        return found["result"]

    def _use(self, run: str | None) -> None:
        if run is not None and run != self.console.run:
            self.said(f"use {run}")


def _option(name: str, value: Any) -> list[str]:
    flag = f"--{name.replace('_', '-')}"
    if value is True or value is False:
        return [flag] if value else []
    return [flag, value if name == "where" else " ".join(quoted(str(one)) for one in _many(value))]


def _many(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]
