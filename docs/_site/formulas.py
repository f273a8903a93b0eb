"""Formulas as docstrings write them, w_t (1 - p_t)^γ log p_t, found in the text and shown as MathML.

What `.. math::` and :math: take on this site is this notation, so that no LaTeX and no script is needed.
"""

from __future__ import annotations

import re
from html import escape
from itertools import accumulate
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

FUNCTIONS = "log1p|log|expm1|exp|max|min|softmax|softplus|sigmoid|logsumexp|tanh|KL"
WORDS = r"pos_weight|weight|alpha|gamma|epsilon|eps|pi|(?<=\()(?:var|logits|input|teacher)"
SUBSCRIPT = r"(?:_(?:\{[^}]*\}|[a-z0-9]\b))?"
TOKEN = re.compile(
    rf"(?P<word>(?:{FUNCTIONS}|{WORDS})(?!\w){SUBSCRIPT}|(?:{FUNCTIONS}){SUBSCRIPT}(?!\w))"
    rf"|(?P<truth>\[[a-z] (?:=|is) [a-z]+\])"
    rf"|(?P<sum>Σ{SUBSCRIPT})"
    rf"|(?P<number>\d+(?:\.\d+)?(?:e-?\d+)?(?![\w.]*\w))"
    rf"|(?P<letter>(?<!['’])[A-Za-zα-ωℓ](?![A-Za-zα-ω0-9]|['’.]\w){SUBSCRIPT}(?!_)!?)"
    r"|(?P<power>\*\*|\^|[²³])"
    rf"|(?P<open>[(\[])|(?P<close>[)\]](?:_[a-z]\b)?)|(?P<bar>\|)"
    r"|(?P<operator>[-+=/·≥≤*‖])|(?P<comma>,)"
)
FORMULA = re.compile(r"[_^Σ²]|\*\*|\w\)? [-+=/*] [\w(-]|\b(?:log|exp)[ (][\w(-]")  # and no list
LONG = 42  # characters, from which on a formula has a line of its own
UNTOUCHED = {"Examples", "See Also", "References"}

Token = tuple[str, str, bool]  # kind, text, whether a space comes first
Match = re.Match[str]


def spans(text: str) -> list[tuple[int, int]]:
    """Where the formulas are."""
    found, place = [], 0
    while place < len(text):
        if (place and re.match(r"[\w.]", text[place - 1])) or not TOKEN.match(text, place):
            place += 1
            continue
        tokens: list[Match] = []
        while token := TOKEN.match(text, place + (bool(tokens) and text[place : place + 1] == " ")):
            tokens.append(token)
            place = token.end()
        for part in between_commas(tokens):
            part = trimmed(part, text)
            if part and FORMULA.search(text[part[0].start() : part[-1].end()]):
                found.append((part[0].start(), part[-1].end()))
    return found


def opened(token: Match) -> int:
    return (token.lastgroup == "open") - (token.lastgroup == "close")


def between_commas(tokens: list[Match]) -> list[list[Match]]:
    """What stands between the commas that are in no brackets."""
    parts: list[list[Match]] = [[]]
    depth = 0
    for token in tokens:
        depth += opened(token)
        if token.lastgroup == "comma" and depth <= 0:
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


def trimmed(tokens: list[Match], text: str) -> list[Match]:
    """Less brackets at the ends whose other half is in the text; nothing where a part is no formula."""

    def depth() -> int:
        return sum(map(opened, tokens))

    while tokens:
        first, last = tokens[0], tokens[-1]
        if last.lastgroup == "comma" or (last.lastgroup == "close" and depth() < 0):
            tokens = tokens[:-1]
        elif first.lastgroup in ("comma", "close") or (first.lastgroup == "open" and depth() > 0):
            tokens = tokens[1:]
        else:
            break
    if not tokens or depth() or min(accumulate(map(opened, tokens))) < 0:
        return []
    after = re.compile(r"\(| \w+(_\w\w|'')")
    goes_on = tokens[-1].lastgroup in ("operator", "open") or bool(after.match(text, tokens[-1].end()))
    goes_on |= tokens[0].lastgroup == "power" or (tokens[0].lastgroup == "operator" and tokens[0][0] != "-")
    return [] if goes_on else tokens


def marked(text: str, display: bool = False) -> str:
    """The text with its formulas as the role :math:, and long ones as the directive; literals as they are."""
    made = ""
    for literal, plain in re.findall(r"(``.+?``|`[^`]+`_*)|([^`]+)", text):
        made += literal
        place = 0
        for start, end in spans(plain):
            made += re.sub(r"([|*])", r"\\\1", plain[place:start])
            formula, place = plain[start:end], end
            if display and len(formula) > LONG:
                stop = re.match(r"[,.;]?", plain[end:])[0]  # type: ignore[index]
                made = f"{made.rstrip()}\n\n.. math:: {formula}{stop}\n\n"
                place = end + len(stop) + plain.startswith(" ", end + len(stop))
            else:
                made += f":math:`{formula}`" + r"\ " * bool(re.match(r"\w", plain[end:]))
        made += re.sub(r"([|*])", r"\\\1", plain[place:])
    return made.rstrip() if display else made


def paragraph(text: str) -> str:
    """One paragraph, or a list of names with formulas, which are displayed."""
    lines = text.split("\n")
    if all(re.match(r"\S.*?:\s{2,}\S", line) for line in lines):
        named = (re.split(r":\s{2,}", line, maxsplit=1) for line in lines)
        return "\n\n".join(f"{name}:\n\n.. math:: {formula}" for name, formula in named)
    if all(line.startswith("    ") for line in lines):
        return f"::\n\n{text}"
    if text.startswith("- "):
        return "\n".join(map(marked, lines))
    return marked(" ".join(lines), display=True)


def typeset(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """A docstring in which the formulas are marked as such, before numpydoc reads it."""
    if what == "module":  # whose summary is for users, and the rest for who reads the source
        lines[:] = [*marked("\n".join(lines).partition("\n\n")[0]).split("\n"), ""]
        return
    if what == "data" and lines[2:]:  # a ufunc, whose signature comes first
        lines[:] = [lines[2], "", f"``{lines[0]}``", *lines[3:]]
    head, *sections = re.split(r"\n\n(\w[\w ]*)\n-+\n", "\n".join(lines))
    head = head.replace("Calling it:\n", ".. rubric:: Calling it\n")
    calling = head.find(".. rubric:: Calling it")
    calling = len(head) if calling < 0 else calling
    summary, *rest = head[:calling].split("\n\n")
    text = "\n\n".join([marked(summary.replace("\n", " ")), *map(paragraph, rest)]) + head[calling:]
    for title, body in zip(sections[::2], sections[1::2], strict=True):
        if title == "Notes":
            body = "\n\n".join(map(paragraph, body.split("\n\n")))
        elif title not in UNTOUCHED:
            body = "\n".join(marked(x) if x.startswith("    ") else x for x in body.split("\n"))
        text += f"\n\n{title}\n{'-' * len(title)}\n{body}"
    lines[:] = text.split("\n")


# ------------------------------------------------------------------------------------------- MathML
GREEK = {"alpha": "α", "gamma": "γ", "epsilon": "ε", "pi": "π"}
GAP = '<mspace width="0.17em"/>'


def tokens_of(formula: str) -> list[Token]:
    tokens, place = [], 0
    while place < len(formula):
        start = place + len(formula[place:]) - len(formula[place:].lstrip())
        token = TOKEN.match(formula, start)
        if not token:
            raise ValueError(f"no formula: {formula!r}, from {formula[start:]!r} on")
        tokens.append((token.lastgroup or "", token[0], start > place))
        place = token.end()
    return tokens


def with_subscript(text: str, tag: str = "mi") -> str:
    base, _, below = text.partition("_")
    if text == "pos_weight":
        base, below = text, ""
    base = GREEK.get(base, base)
    variant = ' mathvariant="normal"' if tag == "mi" and len(base) > 1 else ""
    atom = f"<{tag}{variant}>{escape(base)}</{tag}>"
    if not below:
        return atom
    below = below.strip("{}")
    kind = "mi" if re.fullmatch(r"\w+", below) else "mtext"
    return f"<msub>{atom}<{kind}>{below}</{kind}></msub>"


def atom(tokens: list[Token]) -> str:
    """The next letter, number, word or bracket, with its subscript and power; what it takes is gone."""
    kind, text, _ = tokens.pop(0)
    if kind == "open":
        inner = sequence(tokens, until="close")
        close = tokens.pop(0)[1] if tokens else ""
        closing = with_subscript(close, "mo").replace("<mo>", '<mo stretchy="false">') if close else ""
        made = f"<mrow><mo>{text}</mo>{inner}{closing}</mrow>"
    elif kind == "truth":
        made = f"<mrow><mo>[</mo><mtext>{text[1:-1]}</mtext><mo>]</mo></mrow>"
    elif kind == "sum":
        made = with_subscript(text.replace("Σ", "∑"), "mo")
    elif kind == "number":
        made = f"<mn>{text}</mn>"
    else:
        made = with_subscript(text.rstrip("!")) + "<mo>!</mo>" * text.endswith("!")
    if tokens and tokens[0][0] == "power":
        sign = tokens.pop(0)[1]
        if sign in "²³":
            above = f"<mn>{'23'['²³'.index(sign)]}</mn>"
        elif tokens[0][0] == "open":
            tokens.pop(0)
            above = f"<mrow>{sequence(tokens, until='close')}</mrow>"
            tokens.pop(0)
        else:
            minus = "<mo>−</mo>" if tokens[0][1] == "-" and tokens.pop(0) else ""
            kind, text, _ = tokens.pop(0)
            above = f"<mrow>{minus}{with_subscript(text, 'mn' if kind == 'number' else 'mi')}</mrow>"
        made = f"<msup>{made if made.count('</') == 1 else f'<mrow>{made}</mrow>'}{above}</msup>"
    return made


def sequence(tokens: list[Token], until: str = "") -> str:
    """What stands side by side, up to a bracket that closes."""
    made, after_operator = [], True
    while tokens and tokens[0][0] != until:
        kind, text, spaced = tokens[0]
        if kind in ("operator", "comma", "bar"):
            tokens.pop(0)
            prefix = ' form="prefix"' if after_operator and kind == "operator" else ""
            made.append(f"<mo{prefix}>{text.replace('-', '−').replace('*', '·')}</mo>")
            after_operator = kind != "bar"
        else:
            if spaced and not after_operator:
                made.append(GAP)
            made.append(atom(tokens))
            after_operator = False
    return "".join(made)


def mathml(formula: str, display: str) -> str:
    formula, stop = re.fullmatch(r"(.*?)([,.;]?)", formula.strip(), re.DOTALL).groups()  # type: ignore[union-attr]
    row = sequence(tokens_of(formula)) + (f"<mtext>{stop}</mtext>" if stop else "")
    return f'<math display="{display}" alttext="{escape(formula, quote=True)}"><mrow>{row}</mrow></math>'


def inline(self: Any, node: nodes.math) -> None:
    self.body.append(f'<span class="formula">{mathml(node.astext(), "inline")}</span>')
    raise nodes.SkipNode


def block(self: Any, node: nodes.math_block) -> None:
    self.body.append(mathml(node.astext(), "block"))
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", typeset, priority=400)  # numpydoc has 500
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
