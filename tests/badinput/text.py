"""Mutations of text and bytes, as a broken editor, disk, or attacker makes them."""

from __future__ import annotations

import random

Change = str
_ODD = (
    "\t", "\0", "\x1b[31m", "\ufeff", "\u2028", "\r", "\x7f", "1e999", "-1e999", ".nan", ".inf",
    "-.inf",
    "NaN", "null", "~", "{}", "[]", "''", "&a [*a]", "*a", "<<: *a",
    "!!python/object/apply:os.system [ls]",
    "!!binary aGk=", "!!set {a}", "? {a: 1}\n: b", "%YAML 9.9\n---", "---\n...\n---", "0x1F",
    "0o17", "1_000",
    "1e-400", "9" * 400, "-1", "0", "2147483648", "18446744073709551616",
    "../../outside/secret.txt",
    "/etc/passwd", "C:\\x", "=cmd|' /C calc'!A0", "$(touch pwned)", "`touch pwned`", "%s%n",
    "{{7*7}}",
    "<script>alert(1)</script>", "2024-02-30", "yes", "no", "on", "\u202eabc", "\U0001f426",
    "e\u0301", ",", ";", ":", '"', "'",
    "|\n  x", ">\n x", "#", "@x", "%", "\\", "\ud7ff",
)  # fmt: skip


def mutate_text(text: str, rng: random.Random) -> bytes:
    """One to three changes of `text`, as bytes that need not be UTF-8."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        text = rng.choice(_TEXT)(text, rng)
    return rng.choice(_ENCODINGS)(text) if rng.random() < 0.08 else _utf8(text)


def mutate_bytes(content: bytes, rng: random.Random) -> bytes:
    """One to eight changes of bytes: flips, cuts, repeats, huge and zero numbers, rubbish."""
    out = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        at = rng.randrange(len(out)) if out else 0
        if rng.random() < 0.5:  # headers are short, and where most goes wrong
            at = min(at, rng.randrange(128))
        change = rng.randrange(7)
        if change == 0 and out:
            out[at] ^= 1 << rng.randrange(8)
        elif change == 1:
            del out[at:]
        elif change == 2:
            out[at : at + 4] = rng.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f"))
        elif change == 3:
            out[at:at] = rng.randbytes(rng.choice((1, 4, 64, 4096)))
        elif change == 4:
            del out[at : at + rng.choice((1, 4, 64))]
        elif change == 5:
            out[at : at + 64] = rng.randbytes(64)
        else:
            out += out[at : at + 4096]
    return bytes(out)


def odd_text(rng: random.Random) -> str:
    """A word that is often not expected."""
    if rng.random() < 0.1:
        return rng.choice("aÄ0 .") * rng.choice((300, 5000, 70_000))
    return rng.choice(_ODD)


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", errors="surrogatepass")


def _place(text: str, rng: random.Random) -> int:
    return rng.randrange(len(text) + 1)


def _insert(text: str, rng: random.Random) -> str:
    at = _place(text, rng)
    return text[:at] + odd_text(rng) + text[at:]


def _replace_value(text: str, rng: random.Random) -> str:
    """The rest of a line after its sign is something else."""
    lines = text.split("\n")
    at = rng.randrange(len(lines))
    for sign in (": ", "=", ","):
        if sign in lines[at]:
            lines[at] = lines[at].partition(sign)[0] + sign + odd_text(rng)
            break
    return "\n".join(lines)


def _cut(text: str, rng: random.Random) -> str:
    return text[: _place(text, rng)]


def _drop(text: str, rng: random.Random) -> str:
    at = _place(text, rng)
    return text[:at] + text[at + rng.choice((1, 1, 5, 40)) :]


def _lines(text: str, rng: random.Random) -> str:
    """A line twice, gone, elsewhere, or deeper."""
    lines = text.split("\n")
    at = rng.randrange(len(lines))
    line = lines[at]
    change = rng.randrange(5)
    if change == 0:
        lines.insert(at, line)
    elif change == 1:
        del lines[at]
    elif change == 2:
        lines.insert(rng.randrange(len(lines)), lines.pop(at))
    elif change == 3:
        lines[at] = rng.choice((" ", "\t", "  ", "    ")) + line
    else:
        lines[at] = line.lstrip()
    return "\n".join(lines)


def _bomb(text: str, rng: random.Random) -> str:
    """Aliases that double, nesting without end, or more lines than anybody writes."""
    change = rng.randrange(6)
    deep = rng.choice((50, 1000, 10_000))
    if change == 0:
        rows = ["a0: &a0 [x, x]"] + [f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 40)]
        return text + "\n" + "\n".join(rows) + "\n"
    if change == 1:
        return text + "\nx: " + "[" * deep
    if change == 2:
        return text + "\nx: " + "{a: " * deep + "1" + "}" * deep + "\n"
    if change == 3:
        return text + "\n" + "".join(f"{' ' * i}k:\n" for i in range(min(deep, 1000)))
    if change == 4:
        return text + "\n" + "\n".join(f"k{i}: {i}" for i in range(deep * 2)) + "\n"
    return text + "\nx: " + rng.choice("a1.-") * (deep * 20) + "\n"


_TEXT = (
    _insert,
    _insert,
    _replace_value,
    _replace_value,
    _replace_value,
    _cut,
    _drop,
    _lines,
    _lines,
    _bomb,
)
_ENCODINGS = (
    lambda text: b"\xef\xbb\xbf" + _utf8(text),
    lambda text: text.encode("utf-16", errors="replace"),
    lambda text: text.encode("latin-1", errors="replace").replace(b"e", b"\xe9", 3),
    lambda text: _utf8(text).replace(b"\n", b"\r\n"),
    lambda text: _utf8(text).replace(b"\n", b"\r"),
    lambda text: _utf8(text) + b"\xff\xfe\xed\xa0\x80",
)
