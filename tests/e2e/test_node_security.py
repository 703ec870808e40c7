"""What tasks can get hold of on a node, and what a node can get hold of with its token: their own, and nothing else."""

import json
from typing import Any

import pytest
import urllib3
from kubernetes import config

from tests.cluster import Cluster
from tests.e2e.conftest import SYSTEM, Namespace, eventually, pack, pool, task

pytestmark = pytest.mark.cluster

ROOT = "/mnt/batch/tasks"
TOKEN = "/var/run/secrets/packhorse/token"
AUTHORITY = "/etc/packhorse/node-service/ca.crt"
DEPLOYED = f"{ROOT}/.packhorse/agent/deployed.json"

ASK = """
import http.client, json, os, ssl, sys
context = ssl.create_default_context(cafile="/etc/packhorse/node-service/ca.crt")
service = http.client.HTTPSConnection(os.environ["PACKHORSE_NODE_SERVICE"], context=context, timeout=30)
headers = {"Authorization": "Bearer " + sys.argv[1]} if sys.argv[1] else {}
service.request(sys.argv[2], sys.argv[3], body=sys.argv[4] or None, headers=headers)
answer = service.getresponse()
print(json.dumps([answer.status, json.loads(answer.read())]))
"""
"""A request to the node service from the agent's container: token, method, path, body."""

# The brackets keep a search from finding itself in its own command line.
SECRETS = "si[g]=|ey[J][A-Za-z0-9_-]{20}|AccountKe[y]=|packhorse-nod[e]|BEGIN [A-Z]* *PRIVATE KE[Y]"
SEARCH = f"""
ls -R /var/run/secrets /run/secrets /etc/packhorse 2>/dev/null
for file in /proc/[0-9]*/environ /proc/[0-9]*/cmdline; do tr '\\0' '\\n' <$file 2>/dev/null; done | grep -E '{SECRETS}'
grep -rlE -D skip '{SECRETS}' $AZ_BATCH_NODE_ROOT_DIR /tmp /home /root /run 2>/dev/null
echo searched
"""


@pytest.fixture(scope="module")
def guarded(namespace: Namespace, installed: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Namespace:
    """A pool of one node with a package, and another package that it does not refer to."""
    folder = tmp_path_factory.mktemp("packages")
    for name in ("app", "private"):
        archive = pack(folder / f"{name}.zip", {"bin/app": f"#!/bin/sh\necho {name} works\n"})
        namespace.cli("package", "upload", name, "1", str(archive))
    namespace.apply(pool("guarded", 1, installed.task_image, [{"applicationId": "app", "version": "1"}]))
    namespace.idle("guarded", 1)
    return namespace


def run(namespace: Namespace, name: str, command: str, **spec: Any) -> dict[str, Any]:
    """Run a task; its status."""
    namespace.apply(task(name, "guarded", command, **spec))
    return namespace.finished(name)


def in_agent(namespace: Namespace, *command: str) -> str:
    return namespace.kubectl("exec", "guarded-0", "-c", "agent", "--", *command)


def token(namespace: Namespace) -> str:
    return in_agent(namespace, "cat", TOKEN).strip()


def ask(namespace: Namespace, method: str, path: str, body: str = "", *, by: str) -> tuple[int, dict[str, Any]]:
    """What the node service answers to a token: status and body."""
    status, answer = json.loads(in_agent(namespace, "python3", "-c", ASK, by, method, path, body))
    return status, answer


def wanted(namespace: Namespace, application_id: str) -> str:
    """The request for an application's package."""
    status = namespace.get("phpkg", f"{application_id}.1")["status"]
    content = {"sha256": status["sha256"], "size": status["size"]}
    return json.dumps({"applicationId": application_id, "version": "1", **content})


def rebooted(namespace: Namespace) -> None:
    before = namespace.get("pod", "guarded-0")["metadata"]["uid"]
    namespace.kubectl("delete", "pod", "guarded-0")
    eventually(
        lambda: [pod["metadata"]["uid"] for pod in namespace.list("pod")] not in ([], [before]), "the node is rebooted"
    )
    namespace.idle("guarded", 1)


# --- tasks -------------------------------------------------------------------------------------------------------


def test_nodes_pass_the_restricted_profile(guarded: Namespace, installed: Cluster) -> None:
    found = json.loads(installed.run_kubectl("get", "namespace", guarded.name, "-o", "json"))
    assert found["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    look = "grep -E '^(NoNewPrivs|CapEff|CapPrm|Seccomp):' /proc/self/status | tr -s '\\t ' ' '"
    lines = run(guarded, "privileges", look)["output"]["stdout"].splitlines()
    assert sorted(lines) == [
        "CapEff: 0000000000000000",
        "CapPrm: 0000000000000000",
        "NoNewPrivs: 1",
        "Seccomp: 2",
    ]


def test_a_task_finds_no_secret(guarded: Namespace) -> None:
    assert run(guarded, "searches", SEARCH)["output"]["stdout"] == "searched\n"


def test_the_search_would_find_one(guarded: Namespace) -> None:
    planted = [{"name": "PLANTED", "value": "AccountKey=abc"}]
    assert "PLANTED=AccountKey=abc\n" in run(guarded, "finds", SEARCH, environmentSettings=planted)["output"]["stdout"]


def test_a_task_sees_neither_the_agent_nor_its_files(guarded: Namespace) -> None:
    look = f"ls -A {ROOT}/.packhorse; cat {DEPLOYED}; cat {TOKEN}; cat {AUTHORITY}"
    output = run(guarded, "looks", look)["output"]
    assert output["stdout"].split() == ["bin", "run"]
    assert output["stderr"].count("No such file or directory") == 3


def test_packages_and_our_own_programs_are_read_only(guarded: Namespace) -> None:
    attempts = [
        "touch $AZ_BATCH_APP_PACKAGE_app/new",
        "echo more >> $AZ_BATCH_APP_PACKAGE_app/bin/app",
        "rm $AZ_BATCH_APP_PACKAGE_app/bin/app",
        "mv $AZ_BATCH_APP_PACKAGE_app $AZ_BATCH_APP_PACKAGE_app.old",
        "chmod 0777 $AZ_BATCH_APP_PACKAGE_app/bin/app",
        f"touch {ROOT}/applications/new",
        f"rm {ROOT}/.packhorse/bin/supervisor",
    ]
    # Each in a shell of its own: one that fails to redirect would end the others with it. A status has room for 2 KiB.
    refused = "Read-only file system\\|Permission denied"
    tried = "; ".join(f"sh -c '{attempt} && echo done' 2>&1 | grep -o 'done\\|{refused}'" for attempt in attempts)
    status = run(guarded, "changes", f"{tried}; $AZ_BATCH_APP_PACKAGE_app/bin/app")
    *answers, last = status["output"]["stdout"].splitlines()
    assert last == "app works"
    assert len(answers) == len(attempts)
    assert "done" not in answers
    assert answers.count("Read-only file system") >= len(attempts) - 1, "an open file's own mode may be minded first"


# --- what nodes leave behind -------------------------------------------------------------------------------------


def test_no_signature_or_token_is_anywhere_to_be_read(guarded: Namespace, installed: Cluster) -> None:
    own = token(guarded)
    status, leave = ask(guarded, "POST", "/v1/downloads", wanted(guarded, "app"), by=own)
    assert status == 200
    assert "sig=" in leave["url"], "so there is one to be found"
    kinds = "pods,phpool,phtask,phapp,phpkg,statefulsets,controllerrevisions,configmaps,events,networkpolicies,pvc"
    texts = {"objects": guarded.kubectl("get", kinds, "-o", "json")}
    for container in ("install-packages", "agent", "node"):
        texts[container] = guarded.kubectl("logs", "guarded-0", "-c", container)
    operator = ("deployment/packhorse-operator", "-n", SYSTEM)
    texts["operator"] = installed.run_kubectl("logs", *operator)
    assert "guarded-0" in texts["operator"], "these are its logs"
    assert "guarded-0" in texts["objects"]
    for where, text in texts.items():
        for secret in ("sig=", own, own.rpartition(".")[2], "AccountKey"):
            assert secret not in without_own(text), where


def without_own(text: str) -> str:
    """Without what a test of this file put there itself."""
    return text.replace("AccountKey=abc", "")


# --- the node's token --------------------------------------------------------------------------------------------


def test_a_node_gets_the_packages_of_its_pool_and_no_others(guarded: Namespace) -> None:
    own = token(guarded)
    status, packages = ask(guarded, "GET", "/v1/packages", by=own)
    assert status == 200
    assert [item["package"]["applicationId"] for item in packages["packages"]] == ["app"]
    status, problem = ask(guarded, "POST", "/v1/downloads", wanted(guarded, "private"), by=own)
    assert (status, problem["code"]) == (403, "BlobAccessDenied")
    assert "private:1" in problem["message"]
    assert "url" not in problem
    other = json.dumps({**json.loads(wanted(guarded, "app")), "sha256": "0" * 64})
    assert ask(guarded, "POST", "/v1/downloads", other, by=own)[0] == 403


@pytest.mark.parametrize("path", ["/v1/packages", "/v1/connect"])
def test_the_node_service_answers_nobody_without_a_nodes_token(guarded: Namespace, path: str) -> None:
    assert ask(guarded, "GET", path, by="")[0] == 401
    assert ask(guarded, "GET", path, by="eyJhbGciOiJSUzI1NiJ9.e30.c2ln")[0] == 401
    foreign = guarded.kubectl("create", "token", "default").strip()
    assert ask(guarded, "GET", path, by=foreign)[0] == 401, (
        "a token for the Kubernetes API is none for the node service"
    )
    unbound = guarded.kubectl("create", "token", "default", "--audience=packhorse.dev/node-service").strip()
    assert ask(guarded, "GET", path, by=unbound)[0] == 403, "it is no node's"


def test_the_token_is_no_good_for_the_kubernetes_api(guarded: Namespace, installed: Cluster) -> None:
    def status(by: str) -> int:
        configuration = config.new_client_from_config(str(installed.kubeconfig)).configuration
        pool_manager = urllib3.PoolManager(ca_certs=configuration.ssl_ca_cert)
        url = f"{configuration.host}/apis/authentication.k8s.io/v1/selfsubjectreviews"
        body = json.dumps({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"})
        headers = {"Authorization": f"Bearer {by}", "Content-Type": "application/json"}
        answer: int = pool_manager.request("POST", url, body=body, headers=headers).status
        pool_manager.clear()
        return answer

    assert status(guarded.kubectl("create", "token", "default").strip()) == 201, "one that is good"
    assert status(token(guarded)) == 401


# --- links and other traps ---------------------------------------------------------------------------------------


def secrets(namespace: Namespace) -> list[str]:
    """Texts of what tasks must not see."""
    own = token(namespace)
    return [own, own[-40:], "END CERTIFICATE", "fingerprint"]


def unseen(namespace: Namespace, status: dict[str, Any]) -> None:
    text = json.dumps(status)
    for secret in secrets(namespace):
        assert secret not in text


@pytest.mark.parametrize(
    ("name", "target"), [("token", TOKEN), ("authority", AUTHORITY), ("deployed", DEPLOYED), ("folder", "/tmp")]
)
def test_an_output_that_is_a_link_shows_nothing(guarded: Namespace, name: str, target: str) -> None:
    status = run(guarded, f"link-{name}", f"ln -sf {target} ../stdout.txt; ln -sfn {target} ../stderr.txt")
    assert status["executionInfo"]["result"] == "success"
    unseen(guarded, status)


def test_an_output_that_is_a_fifo_holds_nobody_up(guarded: Namespace) -> None:
    status = run(guarded, "fifo", "rm ../stdout.txt ../stderr.txt; mkfifo ../stdout.txt ../stderr.txt")
    assert status["executionInfo"]["result"] == "success"
    assert run(guarded, "after-fifo", "echo on")["output"]["stdout"] == "on\n"


def test_a_task_directory_that_is_a_link_shows_nothing(guarded: Namespace) -> None:
    link = f"mv $AZ_BATCH_TASK_DIR $AZ_BATCH_TASK_DIR.away; ln -s {ROOT}/.packhorse/agent $AZ_BATCH_TASK_DIR"
    unseen(guarded, run(guarded, "away", link))
    parent = f"mv {ROOT}/workitems/inner {ROOT}/workitems/inner.away; ln -s {ROOT}/.packhorse {ROOT}/workitems/inner"
    unseen(guarded, run(guarded, "further-away", parent, jobId="inner"))


def test_an_exit_code_that_is_a_link_shows_nothing(guarded: Namespace) -> None:
    plant = f'for folder in {ROOT}/.packhorse/run/*/; do ln -sf {TOKEN} "$folder/exit"; done'
    status = run(guarded, "exits", f'test "$AZ_BATCH_TASK_ATTEMPT" -gt 1 || {{ {plant}; }}')
    assert status["executionInfo"]["result"] == "success"
    unseen(guarded, status)
    logs = guarded.kubectl("logs", "guarded-0", "-c", "agent")
    for secret in secrets(guarded):
        assert secret not in logs


# The last test of the file: what it does to its node takes a reboot to mend.
def test_traps_in_the_agents_way_hurt_nothing_after_a_reboot(guarded: Namespace) -> None:
    run_dir, agent = f"{ROOT}/.packhorse/run", f"{ROOT}/.packhorse/agent"
    traps = [
        f"mkdir {run_dir}/planted",
        f"ln -s {agent}/attempts {run_dir}/planted/attempts",
        f"ln -s {agent} {run_dir}/planted-too",
        f"rm -rf {ROOT}/startup/wd && ln -s {agent} {ROOT}/startup/wd",
        f"ln -s {agent} {ROOT}/workitems/elsewhere",
        f"rm -f {run_dir}/booted && ln -s {DEPLOYED} {run_dir}/booted",
        f"rm -f {run_dir}/stopping && ln -s {DEPLOYED} {run_dir}/stopping",
        # that by which the task's end is told goes last, by a process that outlives it
        f"setsid sh -c 'sleep 2; rm {run_dir}/requests {run_dir}/results; ln -s {DEPLOYED} {run_dir}/requests;"
        f" mkdir {run_dir}/results; touch {ROOT}/shared/planted' >/dev/null 2>&1 &",
        "sleep 1",
    ]
    for secret in ("fingerprint", "environment"):
        assert secret in in_agent(guarded, "cat", DEPLOYED), "what is looked for below is there"
    status = run(guarded, "traps", "\n".join(traps))
    unseen(guarded, status)
    eventually(
        lambda: "planted" in guarded.kubectl("exec", "guarded-0", "-c", "node", "--", "ls", f"{ROOT}/shared"),
        "all is planted",
    )
    before = in_agent(guarded, "cat", DEPLOYED)
    rebooted(guarded)
    assert json.loads(in_agent(guarded, "cat", DEPLOYED)) == json.loads(before)
    assert in_agent(guarded, "stat", "-c", "%a %u", agent, f"{agent}/attempts").splitlines() == ["700 65532"] * 2
    status = run(guarded, "mended", "$AZ_BATCH_APP_PACKAGE_app/bin/app", jobId="elsewhere")
    unseen(guarded, status)
    after = run(guarded, "mended-too", "$AZ_BATCH_APP_PACKAGE_app/bin/app")
    assert after["output"]["stdout"] == "app works\n"
    unseen(guarded, after)
