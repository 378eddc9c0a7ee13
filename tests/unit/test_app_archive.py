"""Archives of `spyglass export`: what goes in comes out, and hostile ones are refused
before anything outside of the directory is touched.
"""

import gzip
import io
import json
import os
import socket
import stat
import tarfile
import tracemalloc

import pytest

from spyglass.ops.move.app_archive import (
    ArchiveError,
    Manifest,
    Member,
    Reader,
    Writer,
    check_end,
    manifest_text,
    parse_manifest,
)
from spyglass.ops.move.stored_data import StoredDataError, Unpacker, pack, survey

OWNER = (os.getuid(), os.getgid())


@pytest.fixture
def data(tmp_path):
    """A directory as an app may have made it."""
    top = tmp_path / "data"
    (top / "sub" / "empty").mkdir(parents=True)
    (top / "db").write_bytes(os.urandom(200_000))
    (top / "sub" / "odd \xe4\n\x1b name").write_text("odd")
    (top / os.fsdecode(b"not utf-8 \xff")).write_text("bytes")
    (top / ("long" * 60)).write_text("")
    (top / "link").symlink_to("sub/empty")
    (top / "out").symlink_to("/etc/passwd")
    (top / "up").symlink_to("sub/../../x")
    os.mkfifo(top / "pipe")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(top / "socket"))
    (top / "db").chmod(0o600)
    (top / "sub").chmod(0o2750)
    os.utime(top / "sub", (1000, 1000))
    os.utime(top / "db", (2000, 2000))
    return top


def packed(directory, *, compressed=True):
    stream = io.BytesIO()
    archive = Writer(stream, compressed=compressed)
    pack(str(directory), archive)
    archive.close()
    return stream.getvalue()


def unpack(archive, directory):
    """Unpack the stored data of an archive. Return the unpacker."""
    directory.mkdir(exist_ok=True)
    reader = Reader(io.BytesIO(archive))
    unpacker = Unpacker(str(directory / "state"), OWNER)
    for member in reader.members():
        if member.name == "end.json":
            check_end(reader.read_text(), unpacker.entries, unpacker.bytes)
        else:
            unpacker.unpack(member, reader)
    unpacker.finish()
    return unpacker


def seen(directory):
    """Everything in a directory, but for what is not copied."""
    found = {}
    for path in [directory, *directory.rglob("*")]:
        status = path.lstat()
        kind = stat.S_IFMT(status.st_mode)
        if kind in (stat.S_IFIFO, stat.S_IFSOCK):
            continue
        what = (
            os.readlink(path)
            if kind == stat.S_IFLNK
            else (path.read_bytes() if kind == stat.S_IFREG else b"", int(status.st_mtime))
        )
        found[str(path.relative_to(directory))] = (stat.filemode(status.st_mode), what)
    return found


@pytest.mark.parametrize("compressed", [True, False])
def test_what_was_packed_is_unpacked_as_it_was(data, tmp_path, compressed):
    archive = packed(data, compressed=compressed)
    assert (archive[:2] == b"\x1f\x8b") == compressed
    unpacker = unpack(archive, tmp_path / "there")
    assert seen(tmp_path / "there" / "state") == seen(data)
    found = survey(str(data))
    assert (found.entries, found.bytes) == (unpacker.entries, unpacker.bytes)
    assert sorted(found.omitted) == ["pipe", "socket"]
    assert unpacker.links_out == ["state/out -> /etc/passwd", "state/up -> sub/../../x"]


def test_only_what_the_master_keeps_is_left_out(tmp_path):
    top = tmp_path / "data"
    for kept in (".spyglass-notes", ".spyglass-counters.old", "sub/.spyglass-counters"):
        (top / kept).parent.mkdir(parents=True, exist_ok=True)
        (top / kept).write_text("x")
    (top / ".spyglass-reload").mkdir()
    (top / ".spyglass-reload" / "db").write_text("x")
    there = seen(top)
    for name in (".spyglass-counters", ".spyglass-counters.new", ".spyglass-report"):
        (top / name).write_text("x")
    unpack(packed(top), tmp_path / "there")
    assert seen(tmp_path / "there" / "state").keys() == there.keys()


def test_any_tar_can_read_it(data):
    with tarfile.open(fileobj=io.BytesIO(packed(data))) as archive:
        names = archive.getnames()
        assert {(each.uid, each.gid, each.uname) for each in archive.getmembers()} == {(0, 0, "")}
    assert names[0] == "state"
    assert names[-1] == "end.json"


@pytest.mark.parametrize("compressed", [True, False])
def test_an_archive_that_is_cut_off_anywhere_is_refused(data, tmp_path, compressed):
    archive = packed(data, compressed=compressed)
    # tar ends in blocks of zeros that nobody needs.
    whole = len(archive) if compressed else archive.rindex(b"}") + 1
    for number, cut in enumerate([*range(0, whole, 7919), whole - 1]):
        directory = tmp_path / f"cut-{number}"
        try:
            unpack(archive[:cut], directory)
        except ArchiveError:
            continue
        # Cut between two members: then the end is missing, which `import` asks for.
        names = [member.name for member in _members(archive[:cut])]
        assert "end.json" not in names


def _members(archive):
    reader = Reader(io.BytesIO(archive))
    for member in reader.members():
        while reader.read():
            pass
        yield member


def test_a_deep_tree_is_not_packed(tmp_path):
    path = tmp_path
    for _ in range(102):
        path = path / "d"
        path.mkdir()
    with pytest.raises(StoredDataError, match="nested deeper than 100"):
        survey(str(tmp_path))


def test_a_file_that_becomes_shorter_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "db").write_bytes(b"x" * 10)
    archive = Writer(io.BytesIO(), compressed=True)
    with pytest.raises(OSError, match="unexpected end"):
        archive.add(Member("state/db", "file", 0o600, 20, 0), io.BytesIO(b"x" * 10))


# Hostile archives


def header(name, kind=tarfile.REGTYPE, size=0, **more):
    made = tarfile.TarInfo(name)
    made.type = kind
    made.size = size
    made.mode = 0o755 if kind == tarfile.DIRTYPE else 0o600
    for key, value in more.items():
        setattr(made, key, value)
    return made


TOP = header("state", tarfile.DIRTYPE)


def tar(*headers, format=tarfile.PAX_FORMAT):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=format) as archive:
        for each in headers:
            archive.addfile(each, io.BytesIO(b"x" * each.size))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ([TOP, header("../evil", size=1)], "not a path"),
        ([TOP, header("state/../../evil", size=1)], "not a path"),
        ([TOP, header("/etc/evil", size=1)], "not a path"),
        ([TOP, header("state//evil", size=1)], "not a path"),
        ([TOP, header("state/./evil", size=1)], "not a path"),
        ([TOP, header("state/evil/..", tarfile.DIRTYPE)], "not a path"),
        ([TOP, header("", size=1)], "not a path"),
        ([TOP, header("state/" + "n" * 5000, size=1)], "not a path"),
        ([TOP, header("state/a", tarfile.SYMTYPE, linkname="/tmp"), header("state/a/evil", size=1)], "is in no directory"),
        ([TOP, header("state/a", tarfile.SYMTYPE, linkname=".."), header("state/a/evil", size=1)], "is in no directory"),
        ([TOP, header("state/a", tarfile.SYMTYPE, linkname="/tmp"), header("state/a", size=1)], "is there twice"),
        ([TOP, header("state/a", tarfile.SYMTYPE, linkname="/tmp"), header("state/a", tarfile.DIRTYPE)], "is there twice"),
        ([TOP, header("state/a", tarfile.SYMTYPE, linkname="x" * 5000)], "not a symbolic link"),
        ([header("state", tarfile.SYMTYPE, linkname="/etc"), header("state/evil", size=1)], "must be one directory"),
        ([header("state", size=1)], "must be one directory"),
        ([TOP, TOP], "must be one directory"),
        ([header("state/a", size=1)], "is in no directory"),
        ([TOP, header("state/a/b", size=1)], "is in no directory"),
        ([TOP, header("state/a", size=1), header("state/a/b", size=1)], "is in no directory"),
        ([TOP, header("state/a", tarfile.LNKTYPE, linkname="/etc/passwd")], "only files, directories"),
        ([TOP, header("state/a", tarfile.LNKTYPE, linkname="state")], "only files, directories"),
        ([TOP, header("state/a", tarfile.CHRTYPE, devmajor=1, devminor=1)], "only files, directories"),
        ([TOP, header("state/a", tarfile.BLKTYPE, devmajor=8)], "only files, directories"),
        ([TOP, header("state/a", tarfile.FIFOTYPE)], "only files, directories"),
        ([TOP, header("state/a", tarfile.CONTTYPE)], "only files, directories"),
        ([TOP, header("state/a", size=1, mode=0o4755)], "setuid or setgid"),
        ([TOP, header("state/a", size=1, mode=0o2755)], "setuid or setgid"),
        ([TOP, header("state/a", tarfile.DIRTYPE, mode=0o4755)], "setuid or setgid"),
        ([TOP, *[header("state" + "/d" * n, tarfile.DIRTYPE) for n in range(1, 103)]], "nested deeper"),
        ([TOP, header("state/a", pax_headers={"comment": "x" * 600_000})], "too long a header"),
        ([TOP, header("state/a", pax_headers={"size": "-5"})], "impossible size|damaged"),
        ([TOP, header("state/a", pax_headers={"mtime": "nan"}), header("state/a")], "is there twice"),
        ([TOP, header("state/a", pax_headers={"mtime": "1e300"}), header("state/a")], "is there twice"),
        ([TOP, header("state/a", pax_headers={"path": "state/b\0c"})], "not a path"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("compressed", [True, False])
def test_hostile_members_are_refused(tmp_path, members, why, compressed):
    archive = tar(*members)
    with pytest.raises(ArchiveError, match=why) as caught:
        unpack(gzip.compress(archive) if compressed else archive, tmp_path / "there")
    assert str(caught.value).isprintable()
    # Nothing is outside of the directory, and all in it is the command's.
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
    assert not [path for path in tmp_path.rglob("*") if path.name == "evil"]
    assert not os.path.lexists("/tmp/evil")
    for path in (tmp_path / "there").rglob("*"):
        assert stat.S_IFMT(path.lstat().st_mode) in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK)


def test_names_of_gnu_tar_are_bounded(tmp_path):
    archive = tar(TOP, header("state/" + "n" * 600_000, size=1), format=tarfile.GNU_FORMAT)
    with pytest.raises(ArchiveError, match="too long a header"):
        unpack(archive, tmp_path / "there")


def test_a_header_that_claims_gigabytes_takes_no_memory(tmp_path):
    """A pax header is read into memory as a whole, by its claimed size."""
    huge = header("././@PaxHeader", tarfile.XHDTYPE)
    huge.size = 8 << 30
    archive = huge.tobuf(format=tarfile.GNU_FORMAT) + b"0" * 100_000
    tracemalloc.start()
    with pytest.raises(ArchiveError, match="too long a header"):
        unpack(archive, tmp_path / "there")
    assert tracemalloc.get_traced_memory()[1] < 5 << 20
    tracemalloc.stop()


def test_headers_of_headers_end(tmp_path):
    one = header("././@PaxHeader", tarfile.XHDTYPE, size=10).tobuf() + b"10 a=bcde\n".ljust(
        512, b"\0"
    )
    with pytest.raises(ArchiveError):
        unpack(one * 3000, tmp_path / "there")


def test_a_file_that_does_not_fit_is_refused_before_it_is_read(tmp_path):
    big = header("state/a")
    big.size = 1 << 60
    archive = TOP.tobuf() + big.tobuf(format=tarfile.GNU_FORMAT) + b"x" * 1024
    with pytest.raises(StoredDataError, match="not enough space"):
        unpack(archive, tmp_path / "there")
    assert list((tmp_path / "there" / "state").iterdir()) == []


@pytest.mark.parametrize(
    "archive",
    [b"", b"x", b"hello\n" * 1000, b"\0" * 100_000, b"\x1f\x8b", b"\x1f\x8b" + b"x" * 1000, gzip.compress(b"hello" * 1000), os.urandom(20_000)],
    ids=["empty", "x", "text", "zeros", "gzip-start", "gzip-broken", "gzip-text", "random"],
)  # fmt: skip
def test_what_is_no_archive_has_no_members(archive):
    try:
        assert list(_members(archive)) == []
    except ArchiveError as error:
        assert str(error).isprintable()


def test_a_flipped_bit_in_compressed_data_is_noticed(data, tmp_path):
    archive = bytearray(packed(data))
    archive[len(archive) // 2] ^= 1
    with pytest.raises(ArchiveError):
        unpack(bytes(archive), tmp_path / "there")


# The manifest and the end

MANIFEST = Manifest("blog", "1.0", "2026-01-01T00:00:00Z", "host", 3, 100)


def test_a_manifest_is_read_as_it_was_written():
    assert parse_manifest(manifest_text(MANIFEST)) == MANIFEST


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"spyglass-export": 2}, "newer than this one: upgrade"),
        ({"spyglass-export": 2, "version": "\x1b[31m" * 1000}, "newer than this one: upgrade"),
        ({"spyglass-export": 0}, "manifest is wrong"),
        ({"spyglass-export": "1"}, "manifest is wrong"),
        ({"name": 7}, "manifest is wrong"),
        ({"entries": -1}, "manifest is wrong"),
        ({"bytes": True}, "manifest is wrong"),
        ({"bytes": 1e3}, "manifest is wrong"),
        ({"host": None}, "manifest is wrong"),
    ],
)
def test_a_manifest_that_is_wrong(change, why):
    fields = json.loads(manifest_text(MANIFEST)) | change
    with pytest.raises(ArchiveError, match=why) as caught:
        parse_manifest(json.dumps(fields).encode())
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("text", [b"", b"[]", b"7", b"{}", b"[" * 100_000, b"\xff", b"null"])
def test_what_is_no_manifest(text):
    with pytest.raises(ArchiveError, match="manifest is wrong"):
        parse_manifest(text)


@pytest.mark.parametrize("text", [b"", b"{}", b'{"entries": 3, "bytes": 99}', b"[" * 100_000])
def test_an_end_that_does_not_match(text):
    with pytest.raises(ArchiveError, match="not complete"):
        check_end(text, 3, 100)
