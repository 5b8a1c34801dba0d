# SPDX-License-Identifier: Apache-2.0
"""Pages of the API and of the config keys, written for Sphinx from the package before each build.

Signatures are shown as the source writes them, with shapes shortened; docstrings, which write
`code` and plain mathematics, become reStructuredText.
"""

import ast
import dataclasses
import functools
import importlib
import importlib.util
import inspect
import pathlib
import re
import textwrap
import types
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from sphinx.pycode import ModuleAnalyzer

import mixboost_jax
from mixboost_jax import array_types, files, schema

FOLDER = pathlib.Path(__file__).parent / "api"
MODULES = sorted(
  f"mixboost_jax.{name}"
  for name in (
    *mixboost_jax.__all__[1:],
    "array_types",
    "augment.ops",
    "checks",
    "jobs",
    "keys",
    "rewrite",
  )
)
_INTRODUCTION = """
What the doors of the packages show, from their docstrings. A function that takes ``key`` draws;
what stands behind ``*`` is given by name. ``Images``, ``Logits``, ``LogitsFn`` and the like are
array shapes (:doc:`mixboost_jax.array_types`); ``Float['N K']`` is an array of floats of shape
[N, K].
"""
_KEYS = """
``--config.SECTION.KEY=VALUE`` sets a key. One that nothing reads under the other settings must keep
its default. Words such as ``boost`` or ``pixmix`` set several (:doc:`/concepts/training`).
"""


def setup(app: Any) -> None:
  """Connects the pages and the readable signatures."""
  app.connect("config-inited", lambda app, config: write())
  app.connect("autodoc-process-signature", _signature)
  app.connect("autodoc-process-docstring", _docstring, priority=100)  # before napoleon
  app.connect("missing-reference", _array_type)
  app.connect("html-page-context", _plain_lists)


def write() -> None:
  """Writes docs/api; a page that stays the same is left alone, so that Sphinx does not redo it."""
  pages = {name: module_page(name) for name in MODULES}
  pages |= {"index": index_page(), "config": config_page()}
  FOLDER.mkdir(exist_ok=True)
  for name, lines in pages.items():
    place, text = FOLDER / f"{name}.rst", "\n".join(lines) + "\n"
    if not place.exists() or place.read_text(encoding="utf-8") != text:
      files.write_text(place, text)


def index_page() -> list[str]:
  """Returns the list of the packages."""
  lines = [*_title("API"), _INTRODUCTION]
  for name in MODULES:
    words = _first_paragraph(importlib.import_module(name))
    lines.append(f"- :doc:`{_short(name)} <{name}>`: {cleaned(words)}")
  names = (f"   {_short(name)} <{name}>" for name in MODULES)
  return [*lines, "", ".. toctree::", "   :hidden:", "", *names]


def module_page(name: str) -> list[str]:
  """Returns the page of one module: what it says of itself, a list, then every public name."""
  module = importlib.import_module(name)
  names = public(module)
  lines = [*_title(name), f".. automodule:: {name}", ""]
  for one in names:
    words = cleaned(summary(module, one))
    lines.append(f"- :py:obj:`~{name}.{one}`{f': {words}' if words else ''}")
  return [*lines, "", *(line for one in names for line in _entry(module, one))]


def public(module: types.ModuleType) -> list[str]:
  """Returns the public names: `__all__`, or what the module defines itself."""
  if hasattr(module, "__all__"):
    return list(module.__all__)
  own = [n for n, v in vars(module).items() if getattr(v, "__module__", "") == module.__name__]
  constants = [name for scope, name in _analyzed(module.__name__).attr_docs if not scope]
  return [name for name in dict.fromkeys([*own, *constants]) if not name.startswith("_")]


def _entry(module: types.ModuleType, name: str) -> list[str]:
  value, full = getattr(module, name), f"{module.__name__}.{name}"
  if isinstance(value, types.ModuleType):
    if full in MODULES:
      return []
    own = [n for n in public(value) if getattr(module, n, None) is not getattr(value, n)]
    inside = [line for one in own for line in _entry_of(value, full, one)]
    return [f".. py:module:: {full}", "", cleaned(inspect.getdoc(value) or ""), "", *inside]
  return _entry_of(module, module.__name__, name)


def _entry_of(module: types.ModuleType, shown: str, name: str) -> list[str]:
  value, full = getattr(module, name), f"{shown}.{name}"
  if inspect.isclass(value):
    return [f".. autoclass:: {full}", "   :members:", ""]
  if inspect.isroutine(value):
    return [f".. autofunction:: {full}", ""]
  words = textwrap.indent(cleaned(constant_docs(module.__name__, name), module), "   ")
  return [f".. py:data:: {name}", f"   :module: {shown}", "", words, ""]


def summary(module: types.ModuleType, name: str) -> str:
  """Returns the first sentence about a public name."""
  value = getattr(module, name)
  if inspect.isclass(value) or inspect.isroutine(value) or isinstance(value, types.ModuleType):
    return _first_paragraph(value)
  return " ".join(constant_docs(module.__name__, name).split("\n\n")[0].split())


def constant_docs(module: str, name: str) -> str:
  """Returns the text below the assignment of a constant, in whichever module that stands."""
  for place in _origins(module, name):
    if found := _analyzed(place).attr_docs.get(("", name)):
      return "\n".join(found).strip()
  return ""


def _origins(module: str, name: str) -> Iterator[str]:
  yield module
  for node in ast.parse(inspect.getsource(importlib.import_module(module))).body:
    if isinstance(node, ast.ImportFrom) and any(alias.name == name for alias in node.names):
      yield str(node.module)


@functools.cache
def _analyzed(module: str) -> ModuleAnalyzer:
  analyzer = ModuleAnalyzer.for_module(module)
  analyzer.analyze()
  return analyzer


def _short(name: str) -> str:
  return name.removeprefix("mixboost_jax.")


def _title(text: str) -> list[str]:
  return [text, "=" * len(text), ""]


def _first_paragraph(value: Any) -> str:
  return " ".join((inspect.getdoc(value) or "").split("\n\n")[0].split())


# The keys of configs.


def config_page() -> list[str]:
  """Returns the page of all config keys: default, meaning, and when a run reads them."""
  said = schema.meanings()
  lines = [*_title("Config keys"), _KEYS]
  for section, kind in schema.SECTIONS.items():
    lines += [section, "-" * len(section), "", cleaned(inspect.getdoc(kind) or ""), ""]
    for field in dataclasses.fields(kind):
      name = f"{section}.{field.name}"
      default: Any = field.default
      if default is dataclasses.MISSING:
        default = field.default_factory()  # pyright: ignore[reportCallIssue]
      words = [cleaned(said.get(name, ""))]
      if wanted := getattr(field.metadata.get("rule"), "wanted", ""):
        words.append(f"expected: {cleaned(wanted)}")
      if when := field.metadata.get("when"):
        words.append(f"read with {' and '.join(f'``{one.key}{one.wanted}``' for one in when)}")
      said_of = "; ".join(filter(None, words)) or "..."
      lines += [f"``{name}`` = ``{default!r}``", f"   {said_of}", ""]
  return lines


# Signatures, as written.


def _signature(app: Any, what: str, name: str, value: Any, options: Any, text: Any, returns: Any):
  del app, name, options
  if what == "class":
    return (_fields(value), "") if dataclasses.is_dataclass(value) else None
  return written(value) or (text, returns)


def written(function: Any) -> tuple[str, str] | None:
  """Returns arguments and result as in the source, shapes shortened; None without a source."""
  try:
    node = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(function)))).body[0]
  except (OSError, TypeError, SyntaxError):
    return None
  if not isinstance(node, ast.FunctionDef):
    return None
  if node.args.args and node.args.args[0].arg in ("self", "cls"):
    del node.args.args[0]
  node = _Shortened().visit(node)
  return f"({ast.unparse(node.args)})", ast.unparse(node.returns) if node.returns else ""


def _fields(cls: type) -> str:
  node = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
  assert isinstance(node, ast.ClassDef)
  kinds = {ast.unparse(n.target): n for n in node.body if isinstance(n, ast.AnnAssign)}
  shown = []
  for field in dataclasses.fields(cls):
    found = kinds.get(field.name)
    kind = f": {ast.unparse(_Shortened().visit(found.annotation))}" if found else ""
    value = f" = {ast.unparse(found.value)}" if found and found.value else ""
    shown.append(f"{field.name}{kind}{value}")
  return f"({', '.join(shown)})"


class _Shortened(ast.NodeTransformer):
  """`Float[Array, "N K"]` becomes `Float["N K"]`."""

  def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
    match node.slice:
      case ast.Tuple(elts=[kind, ast.Constant(value=str(shape))]) if "rray" in ast.unparse(kind):
        return ast.Subscript(node.value, ast.Constant(shape.strip()), node.ctx)
    return self.generic_visit(node)


def _array_type(app: Any, env: Any, node: Any, content: Any) -> nodes.reference | None:
  """`Images` in a signature leads to the page of the shapes."""
  del env
  target = node.get("reftarget", "")
  if node.get("reftype") != "class" or target.startswith("_") or not hasattr(array_types, target):
    return None
  page = app.builder.get_relative_uri(node["refdoc"], "api/mixboost_jax.array_types")
  place = f"{page}#mixboost_jax.array_types.{target}"
  return nodes.reference("", "", content, internal=True, refuri=place)


def _plain_lists(app: Any, page: Any, template: Any, context: Any, tree: Any) -> None:
  """Long signatures are lists that define nothing, which a screen reader should not announce."""
  del app, page, template, tree
  if "body" in context:
    context["body"] = context["body"].replace("<dl>", '<dl role="presentation">')


# Docstrings.

_CODE = re.compile(r"(`[^`]+`)")
_ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})")
_BESIDES = re.compile(r"^( *)(Besides the arguments of .*):\n(?=\1  \w)", re.M)
_LABEL = re.compile(r"^( *)(Papers?|Deviation):", re.M)
_CONTINUED = re.compile(r"^( *)((?:Papers?|Deviation):.*)((?:\n\1 +\S.*)+)", re.M)
_FENCE = re.compile(r"^( *)```(\w+)\n(.*?)^ *```", re.M | re.S)


def _docstring(app: Any, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
  del app, what, value, options
  parts = name.split(".")
  known = [".".join(parts[:i]) for i in range(1, len(parts) + 1)]
  module = importlib.import_module([name for name in known if _is_module(name)][-1])
  lines[:] = cleaned("\n".join(lines), module).splitlines()


@functools.cache
def _is_module(name: str) -> bool:
  try:
    return importlib.util.find_spec(name) is not None
  except (ImportError, AttributeError, ValueError):
    return False


def cleaned(text: str, module: types.ModuleType | None = None) -> str:
  """Returns a docstring as reStructuredText; names of the module in backticks become links."""
  text = _BESIDES.sub(r"\1\2:\n\n\1Args:\n", text)
  found, start = [], 0
  for fence in _FENCE.finditer(text):
    found += [_prose(text[start : fence.start()], module), _as_block(fence)]
    start = fence.end()
  return "".join([*found, _prose(text[start:], module)])


def _prose(text: str, module: types.ModuleType | None) -> str:
  return "".join(_cleaned(part, module) for part in re.split(r"(\n\n+)", text))


def _as_block(match: re.Match[str]) -> str:
  """Turns a fenced block into a literal one, whose code stays as it is."""
  body = textwrap.indent(textwrap.dedent(match[3]), f"{match[1]}   ")
  return f"{match[1]}.. code-block:: {match[2]}\n\n{body}"


def _cleaned(block: str, module: types.ModuleType | None) -> str:
  start = block.lstrip()
  if start.startswith(">>>") or not start:
    return block
  names = set(public(module)) if module else set()
  # Lines that go on further in would be a list of definitions.
  block = _CONTINUED.sub(lambda m: f"{m[1]}{m[2]}" + re.sub(r"\n +", f"\n{m[1]}", m[3]), block)
  parts = []
  for part in _CODE.split(_LABEL.sub(r"\n\1\2:", block)):
    code = part[1:-1] if part.startswith("`") and len(part) > 2 else ""
    if parts and parts[-1].endswith("`") and part[:1].isalnum():
      parts.append("\\ ")  # `code`s
    if module and code in names:
      parts.append(f":py:obj:`~{module.__name__}.{code}`")
    else:
      parts.append(f"``{code}``" if code else _escaped(part))
  return "".join(parts)


def _escaped(text: str) -> str:
  text = re.sub(r"([*|])", r"\\\1", text)
  text = re.sub(r"(\w)_(?!\w)", r"\1\\_", text)
  text = _ARXIV.sub(r"`arXiv:\1 <https://arxiv.org/abs/\1>`__", text)
  return _LABEL.sub(r"\1**\2:**", text)
