# SPDX-License-Identifier: Apache-2.0
"""Real text: what this machine has, or a file, cut into texts of a limited length."""
import pathlib

# Every Debian has the licences; most also have Perl's modules with their long page of error messages.
PLACES = (("/usr/share/common-licenses", "*"), ("/usr/share/perl", "**/pod/*.pod"))


class NoText(Exception):
    """There is nothing to read; the message says why."""


def read_file(path):
    try:
        text = pathlib.Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise NoText(f"cannot read '{path}': {error.strerror}") from error
    if not text.strip():
        raise NoText(f"'{path}' holds no text")
    return text


def read_default():
    """The texts of this machine as one, and what to call them."""
    paths = sorted({path.resolve() for place, pattern in PLACES for path in pathlib.Path(place).glob(pattern)
                    if path.is_file()})
    if not paths:
        raise NoText(f"this system has no {PLACES[0][0]}; name a text file")
    return "\n".join(map(read_file, paths)), f"{len(paths)} texts that Debian ships (licences, Perl's manual)"


def split(text, most):
    """Texts of at most `most` characters: whole lines where these fit, and a blank line ends one that is half full."""
    texts, begin, at = [], 0, 0
    for line in text.splitlines(keepends=True):
        if at + len(line) - begin > most:
            texts.append(text[begin:at])
            begin = at
        at += len(line)
        while at - begin > most:  # one line is longer than a text
            texts.append(text[begin:begin + most])
            begin += most
        if not line.strip() and at - begin >= most // 2:
            texts.append(text[begin:at])
            begin = at
    texts.append(text[begin:at])
    return [one for one in texts if one.strip()]
