"""Python scripts as pages: the first line of the docstring, and the source."""

from __future__ import annotations

import ast
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.parsers import Parser


class ScriptParser(Parser):
    """What makes a page of a script."""

    supported = ("script",)

    def parse(self, inputstring: str, document: nodes.document) -> None:
        name = Path(document["source"]).name
        summary = (
            (ast.get_docstring(ast.parse(inputstring)) or name).partition("\n")[0].strip(".").replace("`", "")
        )
        page = nodes.section(ids=[nodes.make_id(name)], names=[name])
        page += nodes.title("", summary)
        page += nodes.literal_block(inputstring, inputstring, language="python")
        document += page


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_source_parser(ScriptParser)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
