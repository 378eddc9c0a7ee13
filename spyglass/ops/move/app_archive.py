"""The archive that `spyglass export` writes and `spyglass import` reads.

A tar file (pax), compressed by gzip or not:

    manifest.json               format, name of the app, when and where it was made
    settings.toml               /etc/spyglass/NAME.toml
    files/SUFFIX                /etc/spyglass/NAME.SUFFIX: variables and secrets
    drop-ins/service/X.conf     drop-ins of the administrator's, socket/ likewise
    state/...                   /var/lib/spyglass/NAME; owners are not kept
    end.json                    how much there was: without it the file is cut off

An archive may come from anywhere, and root reads it. So reading takes nothing on trust:
a name is a relative path without "..", a member is a directory, a regular file or a
symbolic link, and neither a header nor a text may be long. Where members go is decided
by stored_data.py.
"""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from spyglass.errors import StartError
from spyglass.printable import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

FORMAT = 1
MANIFEST, SETTINGS, FILES, DROP_INS, STATE, END = (
    "manifest.json",
    "settings.toml",
    "files",
    "drop-ins",
    "state",
    "end.json",
)
TEXT_LIMIT = 1 << 20
"""Bytes of a settings file, a file of variables, a secret or a drop-in."""

_HEADERS = 256 << 10  # bytes read for one member's headers; names are at most PATH_MAX
_LONGEST_NAME = 4096  # PATH_MAX
_PIECE = 1 << 16
_GZIP = 16 + zlib.MAX_WBITS  # a gzip header and trailer (zlib's deflateInit2)
_KINDS = {tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE}
_DAMAGED = (tarfile.TarError, zlib.error, EOFError, ValueError, OverflowError, RecursionError)


class ArchiveError(StartError):
    """The archive is not one of ours, is damaged, or holds what it must not."""

    exit_status = 1


@dataclass
class Manifest:
    """What an archive says of itself: `name` of the app, Spyglass's `version`, `made`
    (ISO 8601) on `host`, and how much stored data follows.
    """

    name: str
    version: str
    made: str
    host: str
    entries: int
    bytes: int


@dataclass
class Member:
    """A member: its `name` in the archive; `kind` is "directory", "file" or "link", and
    `target` where a link leads.
    """

    name: str
    kind: str
    mode: int
    size: int
    mtime: float
    target: str = ""


# Writing


class _Output:
    """The file that tarfile writes to: compresses if wanted, and knows its position.

    Not GzipFile, nor tarfile's streams: those write once more when they are deleted,
    also after `stream` has failed.
    """

    def __init__(self, stream: BinaryIO, *, compressed: bool) -> None:
        self._stream = stream
        self._zip = zlib.compressobj(6, zlib.DEFLATED, _GZIP) if compressed else None
        self._at = 0

    def tell(self) -> int:
        return self._at

    def write(self, data: bytes) -> int:
        self._at += len(data)
        self._stream.write(self._zip.compress(data) if self._zip is not None else data)
        return len(data)

    def finish(self) -> None:
        if self._zip is not None:
            self._stream.write(self._zip.flush())


class Writer:
    """Writes an archive to `stream`, which need not be seekable."""

    def __init__(self, stream: BinaryIO, *, compressed: bool) -> None:
        self._output = _Output(stream, compressed=compressed)
        self._tar = tarfile.TarFile(
            fileobj=self._output,  # type: ignore[arg-type]  # it has what is called
            mode="w",
            format=tarfile.PAX_FORMAT,
            encoding="utf-8",
        )
        self.entries = 0
        self.bytes = 0

    def add_text(self, name: str, text: bytes, mtime: float) -> None:
        """Add a small file."""
        member = Member(name, "file", 0o600, len(text), mtime)
        self._tar.addfile(_header(member), io.BytesIO(text))

    def add(self, member: Member, data: BinaryIO | None = None) -> None:
        """Add a member of the stored data. Raise OSError if `data` has less than its
        size.
        """
        self._tar.addfile(_header(member), data)
        self.entries += 1
        self.bytes += member.size

    def close(self) -> None:
        """Write the end of the archive."""
        counts = {"entries": self.entries, "bytes": self.bytes}
        self.add_text(END, json.dumps(counts).encode(), 0)
        self._tar.close()
        self._output.finish()


def manifest_text(manifest: Manifest) -> bytes:
    """Return the text of manifest.json."""
    return json.dumps({"spyglass-export": FORMAT} | asdict(manifest), indent=2).encode()


def _header(member: Member) -> tarfile.TarInfo:
    kinds = {"directory": tarfile.DIRTYPE, "file": tarfile.REGTYPE, "link": tarfile.SYMTYPE}
    header = tarfile.TarInfo(member.name)
    header.type = kinds[member.kind]
    header.mode, header.size, header.mtime = member.mode, member.size, int(member.mtime)
    header.linkname = member.target
    return header  # owners are 0, and without names


# Reading


class _Source:
    """A forward-only file over `stream`, with the methods that tarfile calls.

    `budget` (int) is how many bytes may be read for headers: tarfile reads a header of
    any size into memory, and follows headers of headers without end.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._at = 0
        self.budget = _HEADERS

    def tell(self) -> int:
        return self._at

    def seek(self, position: int) -> int:
        self.read(position - self._at)
        return self._at

    def read(self, size: int) -> bytes:
        self.budget -= size
        if size < 0 or self.budget < 0:
            raise ArchiveError("the archive has too long a header")
        return self.data(size)

    def data(self, size: int) -> bytes:
        """Return the next `size` bytes, fewer at the end of the file."""
        pieces = []
        while size > 0 and (piece := self._stream.read(min(size, _PIECE))):
            pieces.append(piece)
            size -= len(piece)
            self._at += len(piece)
        return b"".join(pieces)


class Reader:
    """Reads the members of an archive in order. Everything raises ArchiveError."""

    def __init__(self, stream: io.RawIOBase) -> None:
        start = io.BufferedReader(stream, _PIECE)
        try:
            is_gzip = start.peek(2)[:2] == b"\x1f\x8b"
        except OSError as error:
            raise _damaged(error) from error
        self._source = _Source(gzip.GzipFile(fileobj=start) if is_gzip else start)  # type: ignore[arg-type]  # GzipFile reads, which is all
        self._tar: tarfile.TarFile | None = None
        self._member: Member | None = None
        self._left = 0  # bytes of the member that were not read yet

    def members(self) -> Iterator[Member]:
        """Yield the members. read() belongs to the last one."""
        while (member := self._next()) is not None:
            self._left = member.size
            self._member = member
            yield member
            if self._left:
                raise ArchiveError(f"{member.name}: unexpected in an archive")

    def read(self, size: int = _PIECE) -> bytes:
        """Return up to `size` bytes of the member, b"" at its end."""
        try:
            piece = self._source.data(min(size, self._left))
        except (*_DAMAGED, OSError) as error:
            raise _damaged(error) from error
        if not piece and self._left:
            raise ArchiveError("the archive is cut off")
        self._left -= len(piece)
        return piece

    def read_text(self, limit: int = TEXT_LIMIT) -> bytes:
        """Return the whole member, a small file."""
        assert self._member is not None
        if self._member.kind != "file" or self._member.size > limit:
            raise ArchiveError(f"{self._member.name}: not a file of at most {limit} bytes")
        pieces = []
        while piece := self.read():
            pieces.append(piece)
        return b"".join(pieces)

    def _next(self) -> Member | None:
        self._source.budget = _HEADERS
        try:
            if self._tar is None:
                self._tar = tarfile.TarFile(fileobj=self._source, encoding="utf-8")  # type: ignore[arg-type]  # it has what is called
            header = self._tar.next()
            self._tar.members.clear()  # type: ignore[attr-defined]  # or it keeps all headers
            if header is None:
                # To the end of the file: only there gzip compares the checksum.
                if len(self._source.data(_HEADERS)) == _HEADERS:
                    raise ArchiveError("there is something after the end of the archive")
                return None
        except (*_DAMAGED, OSError) as error:
            raise _damaged(error) from error
        return _judged(header)


def _damaged(error: BaseException) -> ArchiveError:
    if isinstance(error, OSError) and error.errno:
        return ArchiveError(f"the archive cannot be read: {error.strerror}")
    return ArchiveError(f"not an archive of 'spyglass export', or a damaged one ({_why(error)})")


def _why(error: BaseException) -> str:
    return one_line(str(error), 100) or type(error).__name__


def _judged(header: tarfile.TarInfo) -> Member:
    """Return the member. Raise ArchiveError for what an export never writes."""
    name = header.name.removesuffix("/") if header.isdir() else header.name
    shown = one_line(name, 200)
    parts = name.split("/")
    if "\0" in name or len(name) > _LONGEST_NAME or not {"", ".", ".."}.isdisjoint(parts):
        raise ArchiveError(f"{shown!r}: not a path that may be in an archive")
    if header.type not in _KINDS:
        raise ArchiveError(f"{shown}: only files, directories and symbolic links are imported")
    kind = "directory" if header.isdir() else "link" if header.issym() else "file"
    if (kind == "file" and header.mode & 0o7000) or header.mode & 0o4000:
        raise ArchiveError(f"{shown}: has the setuid or setgid bit, which no export writes")
    if header.size < 0 or (kind != "file" and header.size):
        raise ArchiveError(f"{shown}: has an impossible size")
    target = header.linkname
    if kind == "link" and ("\0" in target or not 0 < len(target) <= _LONGEST_NAME):
        raise ArchiveError(f"{shown}: not a symbolic link that could exist")
    return Member(name, kind, header.mode & 0o3777, header.size, _time(header.mtime), target)


def _time(mtime: float) -> float:
    # What utimensat(2) takes, whatever the header says.
    return mtime if 0 <= mtime < 1 << 33 else 0.0


def parse_manifest(text: bytes) -> Manifest:
    """Return the manifest. Raise ArchiveError if it is not one, or of a later format.
    Its texts are one line each; the name is not checked.
    """
    try:
        fields = json.loads(text)
        made = fields["spyglass-export"]
        if isinstance(made, int) and made > FORMAT:
            raise ArchiveError(
                f"the archive was made by Spyglass {one_line(str(fields.get('version')), 40)} in "
                f"format {made}, which is newer than this one: upgrade Spyglass here"
            )
        if made != FORMAT:
            raise ValueError
        words = {key: fields[key] for key in ("name", "version", "made", "host")}
        counts = {key: fields[key] for key in ("entries", "bytes")}
        if not all(isinstance(word, str) for word in words.values()):
            raise ValueError
        if not all(type(count) is int and count >= 0 for count in counts.values()):
            raise ValueError
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise ArchiveError("not an archive of 'spyglass export': its manifest is wrong") from None
    name, version, made, host = (one_line(word, 100) for word in words.values())
    return Manifest(name, version, made, host, counts["entries"], counts["bytes"])


def check_end(text: bytes, entries: int, size: int) -> None:
    """Raise ArchiveError unless end.json has these counts."""
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        told = None
    if told != {"entries": entries, "bytes": size}:
        raise ArchiveError("the archive is not complete: its end does not match what is in it")
