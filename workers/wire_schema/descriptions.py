"""What the models' docstrings say, in the words of the wire: for readers who know the fields as JSON has them."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from itertools import pairwise

from pydantic import BaseModel


class Descriptions:
    """The docstrings of models and of their fields.

    Args:
        models: those that are described; their fields' names in Python become the wire's, wherever they are quoted.
    """

    def __init__(self, models: Iterable[type[BaseModel]]) -> None:
        self._wire = {name: each.alias or name for model in models for name, each in model.model_fields.items()}

    def of_model(self, model: type[BaseModel]) -> str:
        """The model's own docstring, one line a paragraph; empty without one."""
        return self._reworded(model.__dict__.get("__doc__") or "")

    def of_field(self, model: type[BaseModel], name: str) -> str:
        """The docstring under a field, wherever it was declared last; empty without one."""
        for base in model.__mro__:
            if issubclass(base, BaseModel) and name in inspect.get_annotations(base):
                return self._reworded(_field_docstrings(base).get(name, ""))
        return ""

    def _reworded(self, text: str) -> str:
        text = re.sub(r"\bNone\b", "null", _unfolded(text))
        return re.sub(r"`(\w+)`", lambda found: f"`{self._wire.get(found[1], found[1])}`", text)


def _unfolded(text: str) -> str:
    """One line a paragraph."""
    paragraphs = re.split(r"\n\s*\n", inspect.cleandoc(text))
    return "\n\n".join(" ".join(each.split()) for each in paragraphs).strip()


@cache
def _field_docstrings(model: type[BaseModel]) -> Mapping[str, str]:
    """By field. Read from the source: Python keeps no docstrings of attributes. None where there is no source."""
    try:
        source = textwrap.dedent(inspect.getsource(model))
    except (OSError, TypeError):
        return {}
    definition = ast.parse(source).body[0]
    return dict(_documented(definition.body)) if isinstance(definition, ast.ClassDef) else {}


def _documented(body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    for statement, after in pairwise(body):
        if not (isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)):
            continue
        match after:
            case ast.Expr(value=ast.Constant(value=str(text))):
                yield statement.target.id, text
