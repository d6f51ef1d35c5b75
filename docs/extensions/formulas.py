"""The formulas of docstrings, typeset: they are written to be read in a terminal, and become LaTeX here.

An indented block between paragraphs is a formula where `latex` understands it, and code otherwise.  It understands:

    v <- momentum v + g             assignments and relations; names side by side are a product
    lr/(1 - beta1^t) m / sqrt(v)    a fraction of the factors on its two sides
    x_i, t_{k+1}, M_t, 2^-11        subscripts and powers
    |x|, <u, v>, max(a, b), x'      norms, products, functions, primes; words that are no name of a quantity are text
"""

import re

GREEK = {"alpha", "beta", "eps", "gamma", "lambda", "mu", "pi", "sigma", "theta"}
FUNCTIONS = {"argmin", "exp", "log", "max", "min", "sign", "softmax", "prox", "dropout", "activation", "fista_t", "sum"}
QUANTITIES = {
    *("lr", "momentum", "momentum_next", "weight_decay", "lr_decay", "lr_new", "lr_old", "decay", "threshold"),
    *("grad_scale", "clip_norm", "clip_value", "outputs", "epochs", "v_hat", "strong_convexity"),
    *("value", "initial", "peak", "final", "most"),
}
TOKEN = re.compile(
    r"""(?P<number>\d+(?:\.\d+)?(?:e[+-]?\d+)?)
      | (?P<name>fista_t\b|[A-Za-z][A-Za-z]*(?:_[A-Za-z]{2,})*\d*)
      | (?P<mark><-|->|<=|>=|<<|\.\.\.|[-+=<>*/^_|(){}\[\],;:'])
      | (?P<gap>\ {4,})
      | (?P<space>\s)""",
    re.VERBOSE,
)
OPERATORS = {
    "<-": r"\leftarrow", "->": r"\to", "<=": r"\le", ">=": r"\ge", "<": "<", ">": ">", "=": "=", "+": "+", "-": "-",
    "*": r"\cdot", ",": ",", ";": ";", ":": ":", "<<": r"\ll",
}  # fmt: skip
CLOSING = {"(": ")", "[": "]", "{": "}", "|": "|"}


INDEXED = ("mu_", "beta_", "lambda_")  # mu_next: the index is a word


class NotAFormula(Exception):
    pass


def tokens(text):
    found, at = [], 0
    while at < len(text):
        match = TOKEN.match(text, at)
        if match is None:
            raise NotAFormula(text[at:])
        found.append((match.lastgroup, match[0]))
        at = match.end()
    return found


def is_word(name):
    return (
        len(name) > 1
        and not name.startswith(INDEXED)
        and not re.fullmatch(r"[A-Za-z]\d+", name)
        and name.rstrip("0123456789") not in GREEK
        and name not in QUANTITIES | FUNCTIONS | {"sqrt"}
    )


def name_latex(name):
    if name.startswith(INDEXED):
        base, index = name.split("_", 1)
        return rf"\{base}_{{\mathit{{{index}}}}}"
    base = name.rstrip("0123456789")
    index = name[len(base) :]
    if base in GREEK:
        base = r"\varepsilon" if base == "eps" else rf"\{base}"
    elif len(base) > 1:
        base = rf"\mathit{{{base}}}".replace("_", r"\_")
    return f"{base}_{{{index}}}" if index else base


class Parser:
    """A line of tokens, read by recursive descent."""

    def __init__(self, text):
        self.tokens, self.at = tokens(text), 0

    def peek(self, ahead=0):
        return self.tokens[self.at + ahead] if self.at + ahead < len(self.tokens) else (None, None)

    def next(self):
        self.at += 1
        return self.tokens[self.at - 1]

    def spaces(self):
        while self.peek()[0] == "space":
            self.at += 1

    def line(self, closing=None):
        parts, words, product = [], [], False

        def flush():
            if words:
                parts.append(r"\text{ " + " ".join(words) + " }")
                words.clear()

        while True:
            self.spaces()
            kind, text = self.peek()
            product, before = False, product
            if kind is None:
                if closing:
                    raise NotAFormula(f"no {closing}")
                break
            if text == closing:
                break
            if kind == "gap":
                self.next()
                flush()
                parts.append(r"\qquad")
            elif kind == "name" and ((is_word(text) and self.peek(1)[1] != "(") or (text == "a" and words)):
                words.append(self.next()[1])
            elif text in OPERATORS:
                self.next()
                if text == "=" and self.tokens[self.at - 2][0] not in ("space", "gap"):
                    raise NotAFormula("a named argument")
                if text == "," and words:
                    words[-1] += ","
                    continue
                flush()
                parts.append(OPERATORS[text] + (r"\;" if text in ";:" else r"\ " if text == "," else ""))
            elif text == "...":
                self.next()
                flush()
                parts.append(r"\ldots")
            else:
                flush()
                factor = self.quotient()
                parts.append(rf"\,{factor}" if before else factor)
                product = not factor.startswith((r"\sum", r"\operatorname{log}"))
                continue
        flush()
        return " ".join(parts)

    def quotient(self):
        found, bare = self.factor()
        while True:
            mark = self.at
            self.spaces()
            if self.peek()[1] != "/":
                self.at = mark
                return found
            self.next()
            self.spaces()
            below = self.factor()[1]
            found = bare = rf"\frac{{{bare}}}{{{below}}}"

    def factor(self):
        """A factor with its subscripts, primes and powers; and what stands for it in a fraction, without brackets."""
        found, bare = self.atom()
        while True:
            mark = self.peek()[1]
            if mark == "'":
                self.next()
                found += "'"
            elif mark in ("_", "^"):
                self.next()
                found += f"{mark}{{{self.script()}}}"
            elif mark == "*" and self.peek(1)[1] in ("|", ")", None):  # the best one: x*
                self.next()
                found += r"^{\ast}"
            else:
                return found, bare if found == self.closed else found

    def script(self):
        sign = self.next()[1] if self.peek()[1] == "-" else ""
        return sign + self.atom()[1]

    closed = None

    def atom(self):
        kind, text = self.peek()
        if kind is None:
            raise NotAFormula("ends early")
        self.next()
        if kind == "number":
            mantissa, _, exponent = text.partition("e")
            power = rf"10^{{{int(exponent)}}}" if exponent else ""
            both = power if exponent and mantissa == "1" else rf"{mantissa} \cdot {power}" if exponent else mantissa
            return both, both
        if kind == "name":
            if text == "sqrt":
                if self.peek()[1] == "(":
                    inside = self.brackets()[1]
                else:
                    self.spaces()
                    inside = self.factor()[0]
                return (rf"\sqrt{{{inside}}}",) * 2
            if text == "sum":
                return (r"\sum",) * 2
            if self.peek()[1] == "(":
                name = rf"\operatorname{{{text}}}".replace("_", r"\_") if len(text) > 1 else text
                both = name + self.brackets()[0]
                return both, both
            if text in FUNCTIONS:
                name = rf"\operatorname{{{text}}}".replace("_", r"\_")
                return name, name
            return (name_latex(text),) * 2
        if text in CLOSING:
            self.at -= 1
            return self.brackets()
        raise NotAFormula(text)

    def brackets(self):
        opening = self.next()[1]
        inside = self.line(CLOSING[opening])
        if self.next()[1] != CLOSING[opening] or not inside:
            raise NotAFormula("empty brackets")
        if opening == "{":
            return inside, inside
        tall = r"\frac" in inside or r"\sum" in inside
        left, right = (r"\left", r"\right") if tall else ("", "")
        self.closed = f"{left}{opening}{inside}{right}{CLOSING[opening]}"
        return self.closed, self.closed if opening == "|" else inside


def latex(lines):
    """LaTeX of the lines of a block; raises `NotAFormula` where there is no formula in it."""
    rows = []
    for line in lines:
        for piece in re.split(r"(?<=;) {2,}|(?<=,) {4,}", line.strip()):
            parser = Parser(piece)
            made = parser.line()
            if parser.at != len(parser.tokens):
                raise NotAFormula("unbalanced")
            made = made.removesuffix(r";\;").rstrip()
            rows.append(re.sub(r"^(.*?) (\\leftarrow|=|\\le) ", r"\1 &\2 ", made, count=1))
    text = " ".join(rows)
    if not re.search(r"\\leftarrow|=|\\le|\\frac|\\sum|\^", text):
        raise NotAFormula("nothing to typeset")
    if len(rows) == 1:
        return [rows[0].replace("&", "", 1)]
    return [r"\begin{aligned}", *(f"{row} \\\\" for row in rows[:-1]), rows[-1], r"\end{aligned}"]


SECTIONS_OF_FIELDS = {"Parameters", "Attributes", "Returns", "Raises", "Warns", "Yields", "Other Parameters"}


def typeset(lines):
    """A docstring's lines with its blocks marked as formulas or code."""
    made, section, at = [], None, 0
    while at < len(lines):
        line = lines[at]
        if at + 1 < len(lines) and line and re.fullmatch(r"-{3,}", lines[at + 1]):
            section = line
        indented = line.startswith("    ") and section not in SECTIONS_OF_FIELDS
        if not indented or (made and made[-1].strip()):
            made.append(line)
            at += 1
            continue
        block = []
        while at < len(lines) and (lines[at].startswith("    ") or not lines[at].strip()):
            block.append(lines[at])
            at += 1
        while not block[-1].strip():
            block.pop()
            at -= 1
        paragraph = next((x for x in reversed(made) if x.strip()), "")
        if re.match(r"\s*(\.\. |- |\d\. |>>>|\.\.\. )", paragraph) or paragraph.endswith("::"):
            made += block
            continue
        try:
            made += [".. math::", "", *(f"   {row}" for row in latex([x for x in block if x.strip()]))]
        except NotAFormula:
            made += [".. code-block:: text", "", *block]
    return made


def process(app, what, name, obj, options, lines):
    lines[:] = typeset(lines)


def setup(app):
    app.connect("autodoc-process-docstring", process, priority=100)  # before numpydoc
    return {"parallel_read_safe": True}
