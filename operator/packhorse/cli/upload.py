"""A file's way into the storage account: blocks in parallel, and an interrupted upload goes on where it ended.

Every block's id follows from the file's digest, the blocks' size and its number. So what an earlier upload of the same
content left in the account is known again, and blocks of other content are never taken for it. Until the list of all
blocks is committed, the blob is as it was before: there is no half of it.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from azure.core.exceptions import ResourceNotFoundError
from azure.storage.blob import BlobBlock, BlobClient

from packhorse.cli import output, parallel
from packhorse.cli.blob import CONNECTIONS, open_blob
from packhorse.cli.cluster import Cluster
from packhorse.cli.content import Content
from packhorse.cli.errors import CliError
from packhorse.cli.grant import Grant
from packhorse.cli.output import say
from packhorse.cli.progress import meter

AGAIN = "Run the same command again: it goes on where it ended."

_BLOCK = 8 << 20
_MIB = 1 << 20
_BLOCKS = 50_000  # as many as a blob may have
_ID = 54  # characters of a block's id; at most 64
_SHORTEST_ID = 24  # with less, too little of the digest would be left in it


class GrantEndedError(Exception):
    """The leave to upload ends before the upload does; with another one it goes on."""


@dataclass(frozen=True)
class Block:
    """A part of the file.

    Attributes:
        id: Its name in the storage account.
        offset: Where it begins in the file.
        size: Its length in bytes.
    """

    id: str
    offset: int
    size: int


def divide(size: int, sha256: str, id_length: int = _ID) -> list[Block]:
    """A file's blocks: so large that their number suffices, and the same for the same content."""
    length = max(_BLOCK, -(-size // (_BLOCKS * _MIB)) * _MIB)
    begin = sha256[: id_length - 11]
    return [
        Block(f"{begin}-{length // _MIB:04d}-{number:05d}", offset, min(length, size - offset))
        for number, offset in enumerate(range(0, size, length))
    ]


def upload(cluster: Cluster, grant: Grant, content: Content, *, afresh: bool = False) -> None:
    """Write a ZIP file as one blob.

    Args:
        cluster: Where the API server is.
        grant: Leave to write the blob.
        content: The file and its digest.
        afresh: Send all of it, also what seems to be there.

    Raises:
        GrantEndedError: The leave is about to end; what was sent so far is kept.
        CliError: The storage account refuses, or cannot be reached even after some tries, or the file was changed.
    """
    size = content.size
    with open_blob(cluster, grant, "upload", AGAIN) as client:
        there, id_length = _look(client)
        blocks = divide(size, content.sha256, id_length)
        missing = [block for block in blocks if afresh or there.get(block.id) != block.size]
        done = size - sum(block.size for block in missing)
        if done:
            say(f"Going on with an earlier upload: {output.size(done)} of {output.size(size)} are there already.")
        if missing:
            _send(client, grant, content, missing, done)
        content.check_unchanged()
        client.commit_block_list([BlobBlock(block.id) for block in blocks])


def _look(client: BlobClient) -> tuple[dict[str, int], int]:
    """The blocks that are there, with their sizes by id, and the length that ids have to have.

    The ids of all blocks of a blob have to be equally long, so blocks that another tool left decide.
    """
    try:
        committed, uncommitted = client.get_block_list("all")
    except ResourceNotFoundError:
        return {}, _ID
    length = _ID
    if uncommitted:
        length = len(uncommitted[0].id)
        if not _SHORTEST_ID <= length <= 64:
            if client.exists():
                raise CliError(
                    "Another tool began to upload this package and left blocks that stand in the way.",
                    "End that upload by that tool and run packhorse package activate, or delete the package first.",
                )
            client.commit_block_list([])  # it clears away what it does not name; nothing but that is there
            return {}, _ID
    return {**_sizes(committed), **_sizes(uncommitted)}, length


def _sizes(blocks: Iterable[BlobBlock]) -> dict[str, int]:
    return {block.id: block.size for block in blocks}


def _send(client: BlobClient, grant: Grant, content: Content, missing: list[Block], done: int) -> None:
    def send(block: Block) -> None:
        if grant.ending:
            raise GrantEndedError
        with content.path.open("rb", buffering=0) as source:  # for each anew: a thread may outlive this transfer
            source.seek(block.offset)
            data = source.read(block.size)
        if len(data) != block.size:
            content.check_unchanged()
        client.stage_block(block.id, data, length=len(data), validate_content="md5")

    with meter(f"Uploading {content.path.name}", content.size, "bytes", begun=done) as advance:

        def count(block: Block) -> None:
            nonlocal done
            done += block.size
            advance(done)

        parallel.run(missing, send, count, CONNECTIONS)
