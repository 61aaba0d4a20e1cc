"""How the characters of a text come from its files: a part of the configuration."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from charjax.text.normal import nfc
from charjax.text.vocab import Encoding

FILE = "file"  # the separator that means that each file or line is a document
RECORD = "\x1e"  # U+001E, the record separator of ASCII, which then ends each


class Form(NamedTuple):
    """How the characters of a text come from its files.

    Attributes:
      encoding: `'utf-8'` for code points, `'bytes'` for byte values.
      normalize: `'nfc'` for Unicode's composed form, `'none'` for what is there.
      field: of JSON lines, the field that is read; empty for other files.
      separator: what ends a document, such as a newline; `'file'`: each file is one,
        and each line of JSON lines, ended by U+001E; empty where there are none.
    """

    encoding: Encoding = "utf-8"
    normalize: str = "none"
    field: str = ""
    separator: str = ""

    @property
    def end(self) -> str:
        """What ends each document; empty where there are none."""
        if self.separator == FILE or (self.field and not self.separator):
            return RECORD
        return nfc_of(self.separator) if self.normalize == "nfc" else self.separator

    @property
    def is_whole(self) -> bool:
        """Whether a file or line is one document, so that it must not have two."""
        return bool(self.field) or self.separator == FILE


def form_of(data: Mapping[str, Any]) -> Form:
    """Returns how a text is read, by the fields `data` of a configuration.

    Fields that are missing, as in those of older versions, have their defaults.
    """
    return Form(**{name: data[name] for name in Form._fields if name in data})


def nfc_of(text: str) -> str:
    """Returns a short text in Unicode's composed form."""
    return "".join(nfc([text]))
