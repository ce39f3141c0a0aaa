"""A file layer for one run: the script can write, but the user's files do not change.

In the mount namespace of the script's process, an overlay file system of Linux covers each
top-level folder. The script can read its own new files and all other files. The harness intercepts
no system call. The file layer does not cover ``/proc``, ``/sys`` and ``/dev``. If the kernel
refuses an overlay, Landlock makes all folders read-only, except the run's own folders.
"""

import contextlib
import errno
import functools
import itertools
import os
import shutil
import stat
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.dry_runs import kernel_calls as kernel

FOLDER = Path("/.harness-dry-run")
"""Folder in the layer; it contains the run's folder, the stub and the stub's settings."""
PRELOADED = Path("/etc/ld.so.preload")
"""File that lists the libraries that the dynamic linker loads into every program, see ld.so(8)."""
LAYERS, ROOT, UPPER, COVERS = "layers", "root", "upper", "covers"
"""Names of the folder of all layers, the new root folder, the folder for a layer's changed files,
and the file with the path of the folder that a layer covers."""
WAYS_OUT = (
    "let the kernel make a layer (Docker: --cap-add SYS_ADMIN --security-opt apparmor=unconfined;"
    " Ubuntu: sysctl kernel.apparmor_restrict_unprivileged_userns=0), or give --write-files"
)

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)

Mode = Literal["layer", "read-only", "written"]

_AS_THEY_ARE = ("/proc", "/sys", "/dev")
_ESCAPED = {"\\040": " ", "\\011": "\t", "\\012": "\n", "\\134": "\\"}
_MOST_FOREIGN = 1000
_SETTINGS = ("HARNESS_DRY_RUN_", "TRITON_CACHE_DIR", "TORCHINDUCTOR_")


@dataclass(frozen=True, kw_only=True)
class Layers:
    """Folders that one run's file layers need.

    Attributes:
        folders: folders on disk that store the files that the script writes. A layer cannot cover
            the folder that contains the layer, so several folders are needed.
        through: folders that no layer covers, e.g. caches of compiled code.
        stub: the folder of the built stub.
        preloaded: names of the stub's libraries that every program of the run loads.
        earlier: layer folders of an earlier run; this run can read the files in them.
    """

    folders: tuple[Path, ...]
    through: tuple[Path, ...]
    stub: Path
    preloaded: tuple[str, ...]
    earlier: tuple[Path, ...] = ()

    def enter(self, folder: Path, *, writes: bool) -> tuple[Mode, Path]:
        """Move this process into the file layer; the process must have only one thread.

        Args:
            folder: the folder of the run.
            writes: whether the script may change the user's real files.

        Returns:
            The mode (see ``Files.mode``), and the new path of the run's folder.

        Raises:
            OSError: the kernel supports neither a layer nor Landlock, or there is no space.
        """
        try:
            _Covering(self, folder, writes=writes).cover()
        except OSError as error:
            if error.errno in NO_SPACE:
                raise
            refused = error
        else:
            return ("written" if writes else "layer"), FOLDER / "run"
        if writes:
            return "written", folder
        (folder / "refused").write_text(str(refused))
        (folder / "tmp").mkdir()
        tempfile.tempdir = os.environ["TMPDIR"] = str(folder / "tmp")
        kernel.allow_writes_only(self.writable(folder))
        return "read-only", folder

    def writable(self, folder: Path) -> tuple[Path, ...]:
        """Return the folders that the script can write to if there is no layer."""
        return (folder, *self.through, Path("/dev"), Path("/proc"))


class _Covering:
    def __init__(self, layers: Layers, folder: Path, *, writes: bool) -> None:
        self._layers = layers
        self._folder = folder
        self._writes = writes
        self._is_root = True
        self._root = layers.folders[0] / ROOT
        self._mounts = _mounts()
        self._here = Path.cwd()
        home = os.path.realpath(os.path.expanduser("~"))  # noqa: PTH111 there may be none
        self._foreign = [Path(home), self._here, *_foreign(self._here)]
        self._count = 0

    def cover(self) -> None:
        """Build a new root folder from layers, and make it this process's root."""
        self._unshare()
        for place in self._layers.folders:
            place.mkdir(parents=True)
        self._root.mkdir()
        _bind(self._root, self._root)
        for top in sorted(Path("/").iterdir()):
            self._add(top)
        for mounted in map(Path, self._mounts):
            inside = mounted.parent != Path("/")
            if inside and not any(mounted.is_relative_to(one) for one in _AS_THEY_ARE):
                self._cover_mounted(mounted)
        if not self._count:
            raise OSError(0, "no folder can be covered")
        self._add_own()
        for path in self._layers.through:
            _bind(path, self._root / path.relative_to("/"))
        self._stand_for(Path("/"), self._root)
        kernel.enter_root(str(self._root))
        os.chdir(self._here)
        if not self._is_root:
            kernel.drop_capabilities()

    def _unshare(self) -> None:
        user, group = os.geteuid(), os.getegid()
        try:
            kernel.unshare(kernel.NEW_MOUNTS)
        except OSError:  # without the right to mount: in a user namespace of its own
            kernel.unshare(kernel.NEW_USER | kernel.NEW_MOUNTS)
            self._is_root = False
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
            Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
        kernel.mount(None, "/", flags=kernel.RECURSIVE | kernel.PRIVATE)

    def _add_own(self) -> None:
        """Add the run's folder; add the stub and its settings so that every user can read them."""
        place = self._made(FOLDER)
        _bind(self._folder, self._made(FOLDER / "run"))
        (place / "status").touch()
        (self._folder / "status").chmod(0o666)  # nobody else sees the folder that it is in
        _bind(self._folder / "status", place / "status")
        for file in self._layers.stub.glob("*.so*"):
            shutil.copyfile(file, place / file.name)
        inside = {str(self._layers.stub): str(FOLDER), str(self._folder): str(FOLDER)}
        for name, text in list(os.environ.items()):
            if name.startswith(_SETTINGS):
                former, _, last = text.rpartition("/")
                os.environ[name] = f"{inside[former]}/{last}" if former in inside else text
        stub = str(self._layers.stub)
        for name in ("LD_PRELOAD", "LD_LIBRARY_PATH"):  # of the former, the layer has a file
            paths = os.environ.get(name, "").split(":")
            paths = [path for path in paths if not path.startswith(f"{stub}/")]
            os.environ[name] = ":".join(str(FOLDER) if path == stub else path for path in paths)
        settings = {name: text for name, text in os.environ.items() if name.startswith(_SETTINGS)}
        lines = "".join(f"{name}={text}\n" for name, text in settings.items())
        (place / "settings").write_text(lines)

    def _made(self, path: Path) -> Path:
        """Create a folder in the new root; return the path of the created folder."""
        place = self._root / path.relative_to("/")
        place.mkdir()
        return place

    def _add(self, top: Path) -> None:
        """Add a file or folder of the old root to the new root."""
        if top.is_symlink():
            (self._root / top.name).symlink_to(top.readlink())
        elif str(top) in _AS_THEY_ARE:
            _bind(top, self._made(top), kernel.RECURSIVE)
        elif top.is_dir():
            self._cover(top, self._made(top))
        elif top.is_file():
            (self._root / top.name).touch()
            self._bind_locked(top, self._root / top.name)

    def _cover_mounted(self, top: Path) -> None:
        """Cover a mount below a covered folder, because the folder's layer does not include it."""
        place = self._root / top.relative_to("/")
        with contextlib.suppress(OSError):  # another user's, or below what another mount hides
            if top.is_dir():
                self._cover(top, place)
            elif top.exists():
                self._bind_locked(top, place)

    def _cover(self, top: Path, place: Path) -> None:
        """Mount a layer over a folder; make the folder read-only if no layer can be mounted."""
        if self._writes and str(top) != "/etc":
            _bind(top, place)
            return
        if "ro" not in self._flags(top):
            for layers in sorted(self._layers.folders, key=functools.partial(_is_inside, top)):
                with contextlib.suppress(OSError):
                    self._mount(top, place, layers / str(self._count))
                    return
        self._bind_locked(top, place)
        if any(Path(one).is_relative_to(top) and one != str(top) for one in self._mounts):
            self._cover_inside(top, place)

    def _cover_inside(self, top: Path, place: Path) -> None:
        """Cover the subfolders of a folder that cannot be covered as a whole."""
        for inner in top.iterdir():
            is_plain = inner.is_dir() and not inner.is_symlink() and str(inner) not in self._mounts
            if is_plain:
                with contextlib.suppress(OSError):
                    self._cover(inner, place / inner.name)

    def _flags(self, top: Path) -> frozenset[str]:
        """Return the flags of the mount that contains a path."""
        on = [one for one in self._mounts if top.is_relative_to(one)]
        return self._mounts[on[-1]] if on else frozenset()

    def _bind_locked(self, top: Path, place: Path) -> None:
        """Add a path to the new root, read-only unless the script may change real files."""
        _bind(top, place, kernel.RECURSIVE)  # a plain user may not leave out what is mounted below
        if not self._writes:
            kept = sum(kernel.KEPT_FLAGS.get(flag, 0) for flag in self._flags(top) | {"ro"})
            kernel.mount(None, str(place), flags=kernel.BIND | kernel.REMOUNT | kept)

    def _mount(self, top: Path, place: Path, layer: Path) -> None:
        """Mount one layer; the kernel refuses a layer that is stored inside the covered folder."""
        upper, work = layer / UPPER, layer / "work"
        upper.mkdir(parents=True, exist_ok=True)
        work.mkdir(exist_ok=True)
        self._stand_for(top, upper)
        if not self._is_root:
            self._make_foreign(top, upper)
        if str(top) == "/etc":
            self._preload(upper)
        paths = (upper, work, *self._earlier(top), top)
        opened = [os.open(path, os.O_PATH) for path in paths]
        try:
            upper_fd, work_fd, *lower = (f"/proc/self/fd/{one}" for one in opened)  # no ":" or ","
            data = [f"lowerdir={':'.join(lower)}", f"upperdir={upper_fd}", f"workdir={work_fd}"]
            data += ["redirect_dir=on", "index=on"] if self._is_root else ["userxattr"]
            kernel.mount("overlay", str(place), "overlay", data=",".join(data))
        finally:
            for one in opened:
                os.close(one)
        (layer / COVERS).write_text(str(top))
        self._count += 1

    def _earlier(self, top: Path) -> Iterator[Path]:
        """Yield the folders that contain an earlier run's changes to a folder."""
        for folder in self._layers.earlier:
            for covers in folder.glob(f"*/{COVERS}"):
                if covers.read_text() == str(top):
                    yield covers.with_name(UPPER)

    def _make_foreign(self, top: Path, upper: Path) -> None:
        """In the layer, create the folders of other owners, because the kernel cannot copy them.

        If the user is not root, this method creates the home folder, the working folder, their
        parent folders, and folders of other owners inside the working folder.
        """
        for folder in self._foreign:
            for path in (*reversed(folder.parents), folder):
                made = upper / os.path.relpath(path, top)
                if path != top and path.is_relative_to(top) and path.is_dir() and not made.exists():
                    made.mkdir()
                    self._stand_for(path, made)

    def _stand_for(self, top: Path, upper: Path) -> None:
        """Copy the owner, mode and times of folder ``top`` to folder ``upper`` in the layer."""
        facts = top.stat()
        if self._is_root:
            os.chown(upper, facts.st_uid, facts.st_gid)
        may_write = self._is_root or os.access(top, os.W_OK)
        upper.chmod(stat.S_IMODE(facts.st_mode) & (0o7777 if may_write else 0o7555))
        os.utime(upper, ns=(facts.st_atime_ns, facts.st_mtime_ns))

    def _preload(self, upper: Path) -> None:
        lines = [str(FOLDER / name) for name in self._layers.preloaded]
        with contextlib.suppress(OSError):
            lines += PRELOADED.read_text().split()
        upper.chmod(0o755)
        (upper / PRELOADED.name).write_text("\n".join(lines) + "\n")
        self._stand_for(Path("/etc"), upper)


def _mounts() -> dict[str, frozenset[str]]:
    """Return a mapping from mount path to mount flags, outer mounts first."""
    found: dict[str, frozenset[str]] = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        own, _, file_system = line.partition(" - ")
        words = own.split()
        path = words[4]
        for escaped, character in _ESCAPED.items():
            path = path.replace(escaped, character)
        flags = frozenset(words[5].split(","))
        if "ro" in file_system.split()[-1].split(","):
            flags |= {"ro"}
        found[path] = flags
    return dict(sorted(found.items(), key=lambda one: len(one[0])))


def _foreign(here: Path) -> Iterator[Path]:
    """Yield folders of other owners or groups below ``here``; search at most 1,000 folders."""
    for place, _, _ in itertools.islice(os.walk(here), _MOST_FOREIGN):
        facts = Path(place).stat()
        if (facts.st_uid, facts.st_gid) != (os.geteuid(), os.getegid()):
            yield Path(place)


def _is_inside(top: Path, layers: Path) -> bool:
    """Return whether ``layers`` is inside ``top``; if so, later runs could not find ``layers``."""
    return layers.is_relative_to(top) and layers.stat().st_dev == top.stat().st_dev


def _bind(source: Path, place: Path, flags: int = 0) -> None:
    kernel.mount(str(source), str(place), flags=kernel.BIND | flags)


def disks() -> Iterator[Path]:
    """Yield the folders that can contain layers: TMPDIR, then ``/var/tmp``, then ``/tmp``."""
    given = [os.environ["TMPDIR"]] if "TMPDIR" in os.environ else []
    seen = set[str]()
    for below in (*given, "/var/tmp", tempfile.gettempdir(), "/tmp"):
        real = os.path.realpath(below)
        if real not in seen and os.access(real, os.W_OK):
            seen.add(real)
            yield Path(real)


def remove(folder: Path) -> None:
    """Remove a folder of layers, including subfolders without read permission."""
    for place, folders, _ in os.walk(folder) if os.geteuid() else ():
        for inner in (Path(place, name) for name in folders):
            with contextlib.suppress(OSError):
                if not inner.is_symlink():
                    inner.chmod(0o700)
    threads = [  # some disks wait for each folder
        threading.Thread(target=shutil.rmtree, args=(layer, True))
        for layer in (folder / LAYERS).glob("*")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    shutil.rmtree(folder, ignore_errors=True)
