import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from packhorse.cli.tasks import command_line
from tests.unit.cli.conftest import Run
from tests.unit.cli.fake_cluster import NODE, FakeCluster

SUCCESS: dict[str, Any] = {"state": "completed", "nodeName": NODE, "attempt": 1}
SUCCESS["executionInfo"] = {"exitCode": 0, "result": "success"}
FAILURE: dict[str, Any] = {**SUCCESS, "executionInfo": {"exitCode": 3, "result": "failure"}}
FAILURE["executionInfo"]["failureInfo"] = {"category": "UserError", "code": "FailureExitCode", "message": "It failed"}


def add_task(cluster: FakeCluster, name: str, status: dict[str, Any] | None = None, job: str = "default") -> None:
    spec = {"pool": "render", "commandLine": "true", "jobId": job}
    cluster.put("tasks", name, spec=spec, status=status or {"state": "active"}, metadata={"labels": {"job": job}})


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["echo $HOME | wc"], "echo $HOME | wc"),
        (["echo", "a b"], 'echo "a b"'),
        (["$APP/bin/x", "${Y}"], '"$APP/bin/x" "${Y}"'),
        (["echo", 'a"b\\c`d`', "$(id)", "5$"], 'echo "a\\"b\\\\c\\`d\\`" "\\$(id)" "5\\$"'),
        (["echo", ""], 'echo ""'),
    ],
)
def test_words_stay_words_and_variables_are_found(words: list[str], line: str) -> None:
    assert command_line(words) == line


def test_submit_creates_the_task(cluster: FakeCluster, packhorse: Run) -> None:
    result = packhorse(
        *("task", "submit", "--pool", "render", "--name", "one", "--job", "films", "--package", "ffmpeg#4.2.2"),
        *("--package", "blender", "--env", "A=b=c", "--env", "EMPTY=", "--", "sh", "-c", "x y"),
    )

    assert result.stdout == "task/one created\n"
    task = cluster.find("tasks", "one")
    assert task is not None
    assert task["spec"] == {
        "pool": "render",
        "commandLine": 'sh -c "x y"',
        "jobId": "films",
        "applicationPackageReferences": [{"applicationId": "ffmpeg", "version": "4.2.2"}, {"applicationId": "blender"}],
        "environmentSettings": [{"name": "A", "value": "b=c"}, {"name": "EMPTY", "value": ""}],
    }


def test_tasks_without_a_name_get_different_ones(packhorse: Run) -> None:
    first, second = (packhorse("task", "submit", "--pool", "p", "-o", "name", "--", "true").stdout for _ in range(2))

    assert first.startswith("task.packhorse.dev/task-")
    assert first != second


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--package", "ff mpeg"], "--package ff mpeg: 'ff mpeg' is no application id"),
        (["--package", "ffmpeg#"], "--package ffmpeg#: '' is no version"),
        (["--env", "NAME"], "--env NAME: write NAME=VALUE"),
        (["--wait", "--timeout", "soon"], "'soon' is no duration"),
    ],
)
def test_mistakes_are_found_before_anything_is_sent(
    options: list[str], message: str, cluster: FakeCluster, packhorse: Run
) -> None:
    result = packhorse("task", "submit", "--pool", "render", *options, "--", "true")

    assert result.exit_code == 2
    assert message in result.stderr
    assert cluster.requests == []


def test_name_that_is_taken(cluster: FakeCluster, packhorse: Run) -> None:
    add_task(cluster, "one")

    result = packhorse("task", "submit", "--pool", "render", "--name", "one", "--", "true")

    assert result.exit_code == 1
    assert '"one" already exists' in result.stderr


@pytest.mark.parametrize(("status", "code"), [(SUCCESS, 0), (FAILURE, 1)])
def test_submit_and_wait_ends_as_the_task_does(
    status: dict[str, Any], code: int, cluster: FakeCluster, packhorse: Run
) -> None:
    cluster.react(lambda fake, plural, item: fake.update(plural, item["metadata"]["name"], status=status))

    assert packhorse("task", "submit", "--pool", "render", "--wait", "--", "true").exit_code == code


def test_wait_prints_each_task_as_it_ends(cluster: FakeCluster, packhorse: Run) -> None:
    add_task(cluster, "a", SUCCESS, "films")
    add_task(cluster, "b", job="films")
    add_task(cluster, "other", job="music")
    cluster.on_watch.append(lambda fake: fake.update("tasks", "b", status=SUCCESS))

    result = packhorse("task", "wait", "--job", "films")

    assert result.exit_code == 0
    assert result.stdout.splitlines() == ["task/a succeeded", "task/b succeeded", "2 tasks succeeded"]


def test_wait_fails_if_one_failed_and_tells_why(cluster: FakeCluster, packhorse: Run) -> None:
    add_task(cluster, "a", SUCCESS)
    add_task(cluster, "b", FAILURE)
    no_package = {
        "category": "UserError",
        "code": "ApplicationPackageError",
        "message": "One or more packages are invalid",
        "details": [{"name": "Message", "value": "Resource Unzip failed"}],
    }
    add_task(cluster, "c", {"state": "completed", "executionInfo": {"result": "failure", "failureInfo": no_package}})

    result = packhorse("task", "wait", "a", "b", "c")

    assert result.exit_code == 1
    assert "task/b failed: exit code 3 (node render-0)" in result.stdout
    assert (
        "task/c failed: ApplicationPackageError; One or more packages are invalid; Message: Resource Unzip failed"
        in result.stdout
    )
    assert "2 of 3 tasks failed: b, c" in result.stderr


def test_task_that_is_deleted_has_failed(cluster: FakeCluster, packhorse: Run) -> None:
    add_task(cluster, "a")
    cluster.on_watch.append(lambda fake: fake.remove("tasks", "a"))

    result = packhorse("task", "wait", "a")

    assert result.exit_code == 1
    assert "task/a failed: it was deleted" in result.stdout


def test_wait_chooses_by_labels(cluster: FakeCluster, packhorse: Run) -> None:
    add_task(cluster, "a", SUCCESS, "films")
    add_task(cluster, "b", FAILURE, "music")

    assert packhorse("task", "wait", "-l", "job=films").exit_code == 0
    assert packhorse("task", "wait", "-l", "job=music").exit_code == 1


def test_changes_that_the_server_forgot_are_found_by_a_new_list(cluster: FakeCluster, packhorse: Run) -> None:
    add_task(cluster, "a")
    add_task(cluster, "b")

    def forget(fake: FakeCluster) -> None:
        fake.update("tasks", "a", status=SUCCESS)
        fake.remove("tasks", "b")
        fake.forget()

    cluster.on_watch.append(forget)

    result = packhorse("task", "wait", "a", "b")

    assert result.stdout.splitlines() == ["task/a succeeded", "task/b failed: it was deleted"]


def test_wait_gives_up_in_time(cluster: FakeCluster, packhorse: Run) -> None:
    add_task(cluster, "a", SUCCESS)
    add_task(cluster, "b")

    result = packhorse("task", "wait", "a", "b", "--timeout", "1s")

    assert result.exit_code == 1
    assert "1 of 2 tasks not completed: b" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "Say which tasks"),
        (["a", "--job", "films"], 2, "Say which tasks"),
        (["nothing"], 1, "There is no task 'nothing' here."),
        (["a", "nothing"], 1, "There is no task 'nothing' here."),
        (["--job", "nothing"], 1, "There are no such tasks here."),
    ],
)
def test_wait_for_nothing(arguments: list[str], code: int, message: str, cluster: FakeCluster, packhorse: Run) -> None:
    add_task(cluster, "a", SUCCESS)

    result = packhorse("task", "wait", *arguments)

    assert result.exit_code == code
    assert message in result.stderr


def test_interrupted_wait_says_how_far_it_was(cluster: FakeCluster, packhorse: Run) -> None:
    add_task(cluster, "a", SUCCESS)
    add_task(cluster, "b")
    cluster.on_watch.append(lambda _: os.kill(os.getpid(), signal.SIGINT))

    result = packhorse("task", "wait", "a", "b")

    assert result.exit_code == 130
    assert "1 of 2 tasks completed; the others run on" in result.stderr


# --- files and outputs -----------------------------------------------------------------------------------------------


@pytest.fixture
def directory(cluster: FakeCluster) -> Path:
    """The directory of task ``one``, which is completed, on its node."""
    add_task(cluster, "one", SUCCESS, "films")
    path = cluster.folder / "workitems/films/job-1/one"
    (path / "wd").mkdir(parents=True)
    return path


def test_logs_are_the_whole_output(cluster: FakeCluster, directory: Path, packhorse: Run) -> None:
    (directory / "stdout.txt").write_bytes(b"first\n" * 50_000 + b"\xff\x00 not text\n")
    (directory / "stderr.txt").write_text("a warning\n")

    assert packhorse("task", "logs", "one").stdout_bytes == (directory / "stdout.txt").read_bytes()
    assert packhorse("task", "logs", "--stderr", "one").stdout == "a warning\n"


def test_logs_of_a_node_that_is_gone_are_the_last_lines(cluster: FakeCluster, packhorse: Run) -> None:
    add_task(cluster, "one", {**SUCCESS, "nodeName": "render-9", "output": {"stdout": "the end\n", "stderr": ""}})

    result = packhorse("task", "logs", "one")

    assert result.exit_code == 0
    assert result.stdout == "the end\n"
    assert "render-9 is not there now" in result.stderr
    assert "last lines" in result.stderr


def test_logs_of_a_node_that_is_rebooting_are_the_last_lines(cluster: FakeCluster, packhorse: Run) -> None:
    add_task(cluster, "one", {**SUCCESS, "output": {"stdout": "the end\n", "stderr": ""}})
    cluster.node_runs = False

    result = packhorse("task", "logs", "one")

    assert result.stdout == "the end\n"
    assert "render-0 does not run now" in result.stderr


def test_no_logs_anywhere_is_an_error(cluster: FakeCluster, packhorse: Run) -> None:
    add_task(cluster, "one", {**SUCCESS, "nodeName": "render-9"})

    result = packhorse("task", "logs", "one")

    assert result.exit_code == 1
    assert "render-9 is not there now" in result.stderr


def test_task_that_was_nowhere_has_no_logs(cluster: FakeCluster, packhorse: Run) -> None:
    add_task(cluster, "one")

    result = packhorse("task", "logs", "one")

    assert result.exit_code == 1
    assert "has not been on a node yet: it is active" in result.stderr


def test_missing_right_to_execute_is_told(cluster: FakeCluster, packhorse: Run) -> None:
    add_task(cluster, "one", SUCCESS)
    refused = {"kind": "Status", "reason": "Forbidden", "message": 'pods "render-0" is forbidden'}
    cluster.refusals["GET", "pods"] = (403, refused)

    result = packhorse("task", "logs", "one")

    assert result.exit_code == 1
    assert 'pods "render-0" is forbidden' in result.stderr
    assert "pods/exec" in result.stderr


def test_followed_logs_go_on_until_the_task_is_completed(cluster: FakeCluster, directory: Path, packhorse: Run) -> None:
    running = {"state": "running", "nodeName": NODE, "attempt": 1}
    add_task(cluster, "one", running, "films")
    (directory / "stdout.txt").write_text("first\n")

    def go_on() -> None:
        wait_for(cluster, executions=1)
        with (directory / "stdout.txt").open("a") as file:
            file.write("second\n")
        cluster.update("tasks", "one", status=SUCCESS)

    thread = threading.Thread(target=go_on)
    thread.start()
    result = packhorse("task", "logs", "-f", "one")
    thread.join()

    assert result.exit_code == 0
    assert result.stdout == "first\nsecond\n"


def test_followed_logs_begin_anew_with_another_attempt(cluster: FakeCluster, directory: Path, packhorse: Run) -> None:
    add_task(cluster, "one", {"state": "running", "nodeName": NODE, "attempt": 1}, "films")
    (directory / "stdout.txt").write_text("try one\n")

    def go_on() -> None:
        wait_for(cluster, executions=1)
        (directory / "stdout.txt").unlink()
        (directory / "stdout.txt").write_text("try two\n")
        cluster.update("tasks", "one", status={**SUCCESS, "attempt": 2})

    thread = threading.Thread(target=go_on)
    thread.start()
    result = packhorse("task", "logs", "-f", "one")
    thread.join()

    assert result.stdout.endswith("try two\n")
    assert "was run again: attempt 2" in result.stderr


def wait_for(cluster: FakeCluster, executions: int) -> None:
    """Wait until so many commands were begun on nodes."""
    assert cluster.executed.wait_for(executions)


def test_copied_file_is_the_same(cluster: FakeCluster, directory: Path, packhorse: Run, tmp_path: Path) -> None:
    content = os.urandom(3_000_000)
    (directory / "wd/frame.png").write_bytes(content)

    result = packhorse("task", "cp", "one:frame.png", str(tmp_path / "copy.png"))

    assert result.exit_code == 0
    assert (tmp_path / "copy.png").read_bytes() == content
    assert packhorse("task", "cp", "one:frame.png", "-").stdout_bytes == content


def test_copy_into_a_folder_keeps_the_name(
    cluster: FakeCluster, directory: Path, packhorse: Run, tmp_path: Path
) -> None:
    (directory / "stdout.txt").write_text("")

    assert packhorse("task", "cp", "one:../stdout.txt", str(tmp_path)).exit_code == 0
    assert (tmp_path / "stdout.txt").read_bytes() == b""


def test_broken_connection_is_taken_up_where_it_broke(
    cluster: FakeCluster, directory: Path, packhorse: Run, tmp_path: Path
) -> None:
    content = os.urandom(1_000_000)
    (directory / "wd/big").write_bytes(content)
    cluster.cut_after = [1_000_000, 300_000, 0, 123_456]

    result = packhorse("task", "cp", "one:big", str(tmp_path / "big"))

    assert result.exit_code == 0
    assert (tmp_path / "big").read_bytes() == content


def test_connection_that_breaks_for_ever_leaves_the_destination_alone(
    cluster: FakeCluster, directory: Path, packhorse: Run, tmp_path: Path
) -> None:
    (directory / "wd/big").write_bytes(bytes(1_000_000))
    target = tmp_path / "target"
    target.mkdir()
    (target / "big").write_text("before")
    cluster.cut_after = [1_000_000] + [0] * 10

    result = packhorse("task", "cp", "one:big", str(target))

    assert result.exit_code == 1
    assert "The connection to the node" in result.stderr
    assert {path.name: path.read_text() for path in target.iterdir()} == {"big": "before"}


@pytest.mark.parametrize(
    ("source", "code", "message"),
    [
        ("one", 2, "is not NAME:PATH"),
        ("one:", 2, "is not NAME:PATH"),
        ("one:nothing", 1, "There is no file"),
        ("one:folder", 1, "is a directory or no plain file"),
        ("one:../../two/wd/x", 1, "is not below the directory of task one"),
        ("one:/etc/passwd", 1, "is not below the directory of task one"),
    ],
)
def test_what_cannot_be_copied(source: str, code: int, message: str, directory: Path, packhorse: Run) -> None:
    (directory / "wd/folder").mkdir()
    copy = directory.parent / "copy"

    result = packhorse("task", "cp", source, str(copy))

    assert result.exit_code == code
    assert message in result.stderr
    assert not copy.exists()
