"""Who may do what. Held to "Using RBAC Authorization" and "Authenticating"."""

import pytest

from cachefs.testing.kubernetes import ApiServer
from tests.contract.kubernetes.clients import MAPS, PODS, Client, config_map
from tests.contract.kubernetes.test_reading import pod

RBAC = "rbac.authorization.k8s.io"
REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


@pytest.fixture
def server():
    with ApiServer(authorizing=True) as running:
        yield running


@pytest.fixture
def admin(server):
    return Client(server, server.user("admin", "system:masters"))


@pytest.fixture
def robot(server):
    return Client(server, server.account("default", "robot"))


def role(*rules, name="r", kind="Role", **more):
    head = {"apiVersion": f"{RBAC}/v1", "kind": kind, "metadata": {"name": name}}
    return {**head, "rules": list(rules), **more}


def binding(name="r", *, kind="RoleBinding", role_kind="Role", subject=None):
    account = {"kind": "ServiceAccount", "name": "robot", "namespace": "default"}
    return {
        "apiVersion": f"{RBAC}/v1",
        "kind": kind,
        "metadata": {"name": name},
        "roleRef": {"apiGroup": RBAC, "kind": role_kind, "name": name},
        "subjects": [subject or account],
    }


def rule(verbs, resources, group="", **more):
    return {"apiGroups": [group], "resources": resources, "verbs": verbs, **more}


def test_whoever_has_no_token_is_nobody(server):
    """ "Anonymous requests" are forbidden, an unknown token is unauthorized."""
    refused = Client(server).get(MAPS)
    assert (refused.code, refused.reason) == (403, "Forbidden")
    assert 'User "system:anonymous" cannot list resource "configmaps"' in refused["message"]
    assert Client(server, "unknown").get(MAPS).code == 401


def test_a_token_that_was_revoked_is_unauthorized(server):
    """ "Authenticating": 401 once a token has expired."""
    token = server.account("default", "robot")
    server.revoke(token)
    assert Client(server, token).get("/version").code == 401


def test_a_role_allows_its_verbs_on_its_resources_in_its_namespace(server, robot):
    """ "Role and ClusterRole": rules are purely additive, within the role's namespace."""
    server.install(role(rule(["get", "list"], ["configmaps"])), binding())
    assert robot.get(MAPS).code == 200
    assert robot.get("/api/v1/namespaces/kube-system/configmaps").code == 403
    assert robot.get("/api/v1/configmaps").code == 403
    refused = robot.post(MAPS, config_map("a"))
    assert refused["message"] == (
        'configmaps is forbidden: User "system:serviceaccount:default:robot" cannot create resource '
        '"configmaps" in API group "" in the namespace "default"'
    )


def test_a_cluster_role_allows_everywhere_or_where_it_is_bound(server, robot):
    """ "RoleBinding and ClusterRoleBinding": a ClusterRole can be bound in one namespace."""
    server.install(
        role(rule(["list"], ["pods"]), kind="ClusterRole"), binding(role_kind="ClusterRole")
    )
    assert (robot.get(PODS).code, robot.get("/api/v1/pods").code) == (200, 403)
    server.install(binding(kind="ClusterRoleBinding", role_kind="ClusterRole"))
    assert robot.get("/api/v1/pods").code == 200


def test_a_rule_can_be_about_named_objects(server, admin, robot):
    """ "Referring to resources", resourceNames: get and update by name; create cannot be restricted."""
    server.install(
        role(rule(["get", "patch", "list", "create"], ["configmaps"], resourceNames=["mine"])),
        binding(),
    )
    for name in ("mine", "other"):
        admin.post(MAPS, config_map(name))
    assert robot.get(f"{MAPS}/mine").code == 200
    assert robot.get(f"{MAPS}/other").code == 403
    assert robot.get(MAPS).code == 403
    assert robot.get(MAPS, fieldSelector="metadata.name=mine").code == 200
    assert robot.post(MAPS, config_map("mine")).code == 403


def test_subresources_are_allowed_by_name(server, admin, robot):
    """ "Referring to resources": pods/eviction is not pods."""
    server.install(role(rule(["patch"], ["pods"]), rule(["create"], ["pods/eviction"])), binding())
    admin.post(PODS, pod("a"))
    assert robot.merge(f"{PODS}/a/status", {"status": {"phase": "Failed"}}).code == 403
    assert robot.merge(f"{PODS}/a", {"metadata": {"labels": {"a": "b"}}}).code == 200
    assert robot.delete(f"{PODS}/a").code == 403
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "a"}}
    assert robot.post(f"{PODS}/a/eviction", body).code == 201


def test_an_apply_that_creates_needs_create_too(server, admin, robot):
    """ "Server-Side Apply": creating by apply needs patch and create."""
    server.install(role(rule(["patch"], ["configmaps"])), binding())
    assert robot.apply(f"{MAPS}/a", config_map("a")).code == 403
    admin.post(MAPS, config_map("a"))
    assert robot.apply(f"{MAPS}/a", config_map("a", x="1")).code == 200


def test_watching_is_a_verb_of_its_own(server, robot):
    """ "Determine the Request Verb": get, list and watch are three."""
    server.install(role(rule(["list"], ["configmaps"])), binding())
    assert robot.get(MAPS).code == 200
    assert robot.get(MAPS, watch="1").code == 403


def test_stars_and_groups_and_aggregated_roles_allow(server, robot):
    """ "Aggregated ClusterRoles", wildcards, subjects of kind Group."""
    part = role(rule(["*"], ["*"], group="*"), name="part", kind="ClusterRole")
    part["metadata"]["labels"] = {"in": "whole"}
    selectors = {"clusterRoleSelectors": [{"matchLabels": {"in": "whole"}}]}
    whole = role(name="whole", kind="ClusterRole", aggregationRule=selectors)
    group = {"kind": "Group", "name": "system:serviceaccounts:default", "apiGroup": RBAC}
    bound = binding("whole", kind="ClusterRoleBinding", role_kind="ClusterRole", subject=group)
    server.install(part, whole, bound)
    assert robot.post(MAPS, config_map("a")).code == 201


def test_everybody_known_may_discover_and_ask_about_themselves(server, robot):
    """ "Default roles": system:discovery and system:basic-user."""
    server.install(role(rule(["list"], ["pods"])), binding())
    assert robot.get("/apis").code == 200
    assert Client(server).get("/version").code == 200
    assert Client(server).get("/apis").code == 403
    for resource, allowed in (("pods", True), ("secrets", False)):
        wanted = {"verb": "list", "resource": resource, "namespace": "default"}
        review = robot.post(REVIEWS, {"spec": {"resourceAttributes": wanted}})
        assert (review.code, review["status"]["allowed"]) == (201, allowed)
    rules = robot.post(
        "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", {"spec": {"namespace": "default"}}
    )
    assert rules["status"]["resourceRules"] == [rule(["list"], ["pods"])]


def test_tokens_can_be_reviewed_and_requested(server, admin):
    """ "TokenReview" says whose a token is; "TokenRequest" gives one to a service account."""
    server.install(
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "robot", "namespace": "default"},
        }
    )
    asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    path = "/api/v1/namespaces/default/serviceaccounts/robot/token"
    token = admin.post(path, asked)["status"]["token"]
    review = admin.post("/apis/authentication.k8s.io/v1/tokenreviews", {"spec": {"token": token}})
    assert review["status"]["user"]["username"] == "system:serviceaccount:default:robot"
