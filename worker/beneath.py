"""What lies beneath a folder, opened by its name and through no link: whoever works there may put links anywhere."""

import contextlib
import ctypes
import errno
import os
import stat
from collections.abc import Iterator
from typing import BinaryIO


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_SYS_OPENAT2 = 437
_RESOLVE_NO_MAGICLINKS, _RESOLVE_NO_SYMLINKS, _RESOLVE_BENEATH = 0x02, 0x04, 0x08
_libc = ctypes.CDLL(None, use_errno=True)


def open_beneath(folder: int, name: str, flags: int = 0, mode: int = 0) -> int:
    """A descriptor of what has that name, reached through no link.

    Raises:
        OSError: there is no such thing, or it is a link, or behind one.
    """
    flags |= os.O_CLOEXEC | os.O_NOFOLLOW
    if not flags & os.O_PATH:
        # To open a pipe must not wait for who writes to it.
        flags |= os.O_NONBLOCK
    return _openat2(folder, name, flags, mode, _RESOLVE_BENEATH | _RESOLVE_NO_SYMLINKS | _RESOLVE_NO_MAGICLINKS)


@contextlib.contextmanager
def opened_beneath(folder: int, name: str, flags: int = 0) -> Iterator[int]:
    """The same, closed on leaving."""
    descriptor = open_beneath(folder, name, flags)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def regular_file(folder: int, name: str) -> BinaryIO | None:
    """The regular file of that name, open; None where there is none.

    Opened first and looked at afterwards, so that nothing can be put in its place in between.
    """
    try:
        descriptor = open_beneath(folder, name)
    except OSError:
        return None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    return os.fdopen(descriptor, "rb")


def entries_beneath(folder: int) -> Iterator[tuple[str, "os.DirEntry[str]"]]:
    """(path, entry) of all that lies beneath a folder, but for what is in folders that cannot be opened.

    However deep that is: agents make folders that `os.walk` ends in a RecursionError over.
    """
    waiting = [""]
    while waiting:
        above = waiting.pop()
        with (
            contextlib.suppress(OSError),
            opened_beneath(folder, above or ".", os.O_DIRECTORY) as opened,
            os.scandir(opened) as entries,
        ):
            for entry in entries:
                path = f"{above}/{entry.name}" if above else entry.name
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(path)
                yield path, entry


def link_target(folder: int, name: str) -> str | None:
    """Where a link leads; None where that is not beneath the folder.

    Raises:
        OSError: there is no such link.
    """
    with opened_beneath(folder, name, os.O_PATH) as link:
        target = os.readlink("", dir_fd=link)
    # By its words, as it may lead to what is not there yet; and by the kernel, as other links may be on the way.
    meant = os.path.normpath(os.path.join(os.path.dirname(name), target))
    if meant.startswith("/") or meant.split("/")[0] == "..":
        return None
    try:
        os.close(_openat2(folder, name, os.O_PATH | os.O_CLOEXEC, 0, _RESOLVE_BENEATH | _RESOLVE_NO_MAGICLINKS))
    except OSError as error:
        if error.errno == errno.EXDEV:
            return None
    return target


def _openat2(folder: int, name: str, flags: int, mode: int, resolve: int) -> int:
    how = _OpenHow(flags, mode, resolve)
    descriptor = _libc.syscall(_SYS_OPENAT2, folder, os.fsencode(name), ctypes.byref(how), ctypes.sizeof(how))
    if descriptor < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)
    return int(descriptor)
