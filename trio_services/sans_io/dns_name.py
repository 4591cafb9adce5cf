r"""Names in wire form: labels with their lengths in front, the root's zero byte last.

A name is below another if it ends with it *at the start of a label*: a label may hold any bytes, so
`b"\5x\3com\0"`, which is one label, ends with `b"\3com\0"` and is not below it. So nothing here
compares the ends of bytes; what is above a name is found by walking its labels.
"""

from collections.abc import Collection, Iterator


def name_text(name: bytes) -> str:
    """Return a wire name for people, in the form of zone files (RFC 1035 section 5.1)."""
    labels = []
    at = 0
    while name[at]:
        end = at + 1 + name[at]
        labels.append(
            "".join(
                chr(c) if 0x21 <= c <= 0x7E and c not in b'."();@$\\' else f"\\{c:03}"
                for c in name[at + 1 : end]
            )
        )
        at = end
    return ".".join(labels) + "."


def ancestors(name: bytes) -> Iterator[bytes]:
    """Yield the names above a wire name, nearest first, the root last."""
    at = 0
    while name[at]:
        at += 1 + name[at]
        yield name[at:]


def enclosing(name: bytes, origins: Collection[bytes]) -> bytes | None:
    """Return the innermost of `origins` that `name` is at or below."""
    if not origins:
        return None
    if name in origins:
        return name
    return next((above for above in ancestors(name) if above in origins), None)
