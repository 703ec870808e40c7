"""The tree of files that a package becomes: which names clash, and where symbolic links lead."""

from dataclasses import dataclass, field
from enum import Enum

from packhorse.archive.entries import Kind
from packhorse.archive.errors import ArchiveError, shown
from packhorse.archive.limits import Limits
from packhorse.archive.names import DRIVE, fold, is_plain, split_name

MAX_LINKS = 40
"""Symbolic links that Linux follows in one path."""


class _Node(Enum):
    FILE = "file"
    LINK = "link"
    FOLDER = "folder"
    IMPLIED_FOLDER = "implied folder"  # It has something in it, but no entry of its own.


NODES = {Kind.FILE: _Node.FILE, Kind.LINK: _Node.LINK, Kind.FOLDER: _Node.FOLDER}


@dataclass(slots=True)
class Tree:
    """All paths of a package. Each name is added once, then each link's target."""

    limits: Limits
    # By folded path: what is there; with the path as it is where that is another one. There may be very many.
    _nodes: dict[str, _Node | tuple[str, _Node]] = field(default_factory=dict)
    _targets: dict[str, str] = field(default_factory=dict)
    _resolved: dict[str, tuple[str, ...]] = field(default_factory=dict)
    _folder: str | None = None  # That the last entry is in: its neighbours need not check it again.

    @property
    def folders(self) -> list[str]:
        """Paths of all folders, each after the one that it is in."""
        nodes = (_spelled(key, node) for key, node in self._nodes.items())
        return sorted(path for path, node in nodes if node in (_Node.FOLDER, _Node.IMPLIED_FOLDER))

    def add(self, name: str, kind: Kind) -> None:
        """Add an entry.

        Raises:
            ArchiveError: Its name is not one for a package, it clashes with another one, or there are too many.
        """
        folder, _, last = name.rpartition("/")
        neighbour = folder == self._folder and is_plain(name, last, self.limits)
        parts = [] if neighbour else split_name(name, self.limits)
        key = fold(name)
        there = self._there(key)
        if there is not None and (there[0] != name or kind is not Kind.FOLDER or there[1] is not _Node.IMPLIED_FOLDER):
            raise _clash(name, there)
        self._put(key, name, NODES[kind])
        # A folder that the last entry is in is there, as one, with all that it is in.
        for count in range(len(parts) - 1, 0, -1):
            parent = "/".join(parts[:count])
            parent_key = fold(parent)
            there = self._there(parent_key)
            if there is None:
                self._put(parent_key, parent, _Node.IMPLIED_FOLDER)
                continue
            if there[0] != parent or there[1] in (_Node.FILE, _Node.LINK):
                raise _clash(name, there)
            break
        self._folder = folder
        if len(self._nodes) > self.limits.files:
            raise ArchiveError(
                f"holds more than {self.limits.files} files and folders",
                remedy="Pack fewer, or have the limit raised.",
            )

    def _there(self, key: str) -> tuple[str, _Node] | None:
        node = self._nodes.get(key)
        return None if node is None else _spelled(key, node)

    def _put(self, key: str, path: str, node: _Node) -> None:
        self._nodes[key] = node if key == path else (path, node)

    def add_target(self, name: str, target: str) -> None:
        """Tell where a link that was added points to, as it is in the package.

        Raises:
            ArchiveError: No path inside a package can look like this.
        """
        remedy = "Only relative links inside the package are allowed; pack the file itself ('zip -r' does, without -y)."
        if not target or "\0" in target or "\\" in target:
            raise ArchiveError("is a symbolic link that points to no path", entry=name, remedy=remedy)
        if target.startswith("/") or DRIVE.match(target):
            raise ArchiveError("is a symbolic link to an absolute path", entry=name, remedy=remedy)
        # As deep as it may be all the way up, and down again.
        if len(target.encode()) > self.limits.path_length or target.count("/") > 2 * self.limits.depth:
            raise ArchiveError("is a symbolic link to a path beyond the limit", entry=name, remedy="Shorten it.")
        self._targets[name] = target

    def check_links(self) -> None:
        """Follow all links, once all targets are known. A link to nothing is allowed as long as it stays inside.

        Raises:
            ArchiveError: One leads out of the package, or round in a circle.
        """
        for name in self._targets:
            self._resolve(name, 0)

    def _resolve(self, link: str, depth: int) -> tuple[str, ...]:
        """Return the parts of the path that a link leads to in the end."""
        if link in self._resolved:
            return self._resolved[link]
        if depth > MAX_LINKS:
            raise ArchiveError("is a symbolic link that leads round in a circle", entry=link, remedy="Leave it out.")
        path = link.split("/")[:-1]
        for part in self._targets[link].split("/"):
            if part in ("", "."):
                continue
            if part == "..":
                if not path:
                    raise ArchiveError(
                        "is a symbolic link that leads out of the package",
                        entry=link,
                        remedy="Pack what it points to, or leave it out.",
                    )
                path.pop()
                continue
            path.append(part)
            here = "/".join(path)
            if here in self._targets:
                path = list(self._resolve(here, depth + 1))
        self._resolved[link] = tuple(path)
        return self._resolved[link]


def _spelled(key: str, node: _Node | tuple[str, _Node]) -> tuple[str, _Node]:
    return (key, node) if isinstance(node, _Node) else node


def _clash(name: str, there: tuple[str, _Node]) -> ArchiveError:
    other, node = there
    if name == other and node is _Node.IMPLIED_FOLDER:
        return ArchiveError("is there as a file, and as a folder with other entries in it", entry=name)
    if name == other:
        return ArchiveError("is there twice", entry=name)
    case = "which is the same on systems that ignore letter case"
    if fold(name) == fold(other):
        return ArchiveError(f"is also there as {shown(other)}, {case}", entry=name, remedy="Rename one.")
    if not name.startswith(other):
        reason = f"is in a folder that is also spelled {shown(other)}, {case}"
        return ArchiveError(reason, entry=name, remedy="Rename one.")
    what = "symbolic link" if node is _Node.LINK else "file"
    return ArchiveError(f"is in a folder that is also there as a {what}, {shown(other)}", entry=name)
