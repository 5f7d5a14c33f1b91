import pytest
import yaml

from pilotfish.api.errors import Invalid
from pilotfish.mesh.installation import installation, with_settings
from pilotfish.mesh.meshconfig import read_mesh_config
from pilotfish.mesh.values import read_values

SEED = """
apiVersion: install.istio.io/v1alpha1
kind: IstioOperator
spec:
  profile: default
  values:
    global:
      logging:
        level: default:debug
  meshConfig:
    accessLogFile: /dev/stdout
    defaultConfig:
      holdApplicationUntilProxyStarts: true
      proxyMetadata:
        ISTIO_META_DNS_CAPTURE: "true"
        ISTIO_META_DNS_AUTO_ALLOCATE: "true"
  components:
    pilot:
      hub: istio
      tag: 1.10.4
"""


def operator(**spec):
    return {"apiVersion": "install.istio.io/v1alpha1", "kind": "IstioOperator", "spec": spec}


def named(installed, kind):
    return {o["metadata"]["name"]: o for o in installed.objects if o["kind"] == kind}


def test_the_walkthrough_file_is_installed():
    installed = installation(yaml.safe_load(SEED))
    assert installed.warnings == ()
    assert installed.components == ("Istio core", "Istiod", "Ingress gateways")
    maps = named(installed, "ConfigMap")
    mesh = read_mesh_config(maps["istio"]["data"]["mesh"])
    assert mesh.access_log_file == "/dev/stdout"
    assert mesh.default_config.hold_application_until_proxy_starts
    assert mesh.default_config.switched_on("ISTIO_META_DNS_CAPTURE")
    values = read_values(maps["istio-sidecar-injector"]["data"]["values"])
    assert values.globals.logging.level == "default:debug"
    assert (values.globals.hub, values.globals.tag) == ("istio", "1.10.4")
    services = named(installed, "Service")
    assert set(services) == {"istiod", "istio-ingressgateway"}
    gateway = services["istio-ingressgateway"]["spec"]
    assert gateway["type"] == "LoadBalancer"
    assert [(p["name"], p["port"]) for p in gateway["ports"]] == [("status-port", 15021), ("http2", 80), ("https", 443)]
    assert [p["port"] for p in services["istiod"]["spec"]["ports"]] == [15010, 15012, 443, 15014]
    state = installed.state
    assert (state["metadata"]["name"], state["metadata"]["namespace"]) == ("installed-state", "istio-system")
    assert state["spec"]["components"]["pilot"] == {"enabled": True, "hub": "istio", "tag": "1.10.4"}
    assert state["spec"]["meshConfig"]["accessLogFile"] == "/dev/stdout"
    assert state["spec"]["values"]["global"]["logging"] == {"level": "default:debug"}


@pytest.mark.parametrize(
    ("profile", "services"),
    [
        ("default", {"istiod", "istio-ingressgateway"}),
        ("minimal", {"istiod"}),
        ("demo", {"istiod", "istio-ingressgateway", "istio-egressgateway"}),
        ("empty", set()),
    ],
)
def test_what_each_profile_brings(profile, services):
    installed = installation(operator(profile=profile))
    assert set(named(installed, "Service")) == services
    assert installed.state["spec"]["profile"] == profile


def test_the_demo_profile_logs_and_has_more_ports_and_the_user_has_the_last_word():
    installed = installation(operator(profile="demo", meshConfig={"accessLogFile": ""}))
    assert read_mesh_config(named(installed, "ConfigMap")["istio"]["data"]["mesh"]).access_log_file == ""
    ports = named(installed, "Service")["istio-ingressgateway"]["spec"]["ports"]
    assert [p["port"] for p in ports] == [15021, 80, 443, 31400, 15443]


@pytest.mark.parametrize(
    ("spec", "image"),
    [
        ({}, ("istio", "latest")),
        ({"hub": "mine", "tag": "1"}, ("mine", "1")),
        ({"hub": "mine", "components": {"pilot": {"hub": "pilots", "tag": 2}}}, ("pilots", 2)),
        ({"values": {"global": {"hub": "v", "tag": "3"}}, "components": {"pilot": {"hub": "p"}}}, ("v", "3")),
    ],
)
def test_where_the_proxys_image_comes_from(spec, image):
    text = named(installation(operator(**spec)), "ConfigMap")["istio-sidecar-injector"]["data"]["values"]
    values = read_values(text)
    assert (values.globals.hub, values.globals.tag) == image


def test_a_gateway_is_shaped_by_its_component_and_its_values():
    gateway = {"name": "istio-ingressgateway", "k8s": {"service": {"type": "NodePort"}}, "label": {"tier": "edge"}}
    values = {"gateways": {"istio-ingressgateway": {"serviceAnnotations": {"a": "b"}}}}
    installed = installation(operator(components={"ingressGateways": [gateway]}, values=values))
    service = named(installed, "Service")["istio-ingressgateway"]
    assert service["spec"]["type"] == "NodePort"
    assert service["spec"]["selector"]["tier"] == "edge"
    assert service["metadata"]["annotations"] == {"a": "b"}


def test_a_gateway_is_a_deployment_whose_pods_are_injected():
    installed = installation(operator(profile="demo"))
    assert set(named(installed, "Deployment")) == {"istio-ingressgateway", "istio-egressgateway"}
    deployment = named(installed, "Deployment")["istio-ingressgateway"]
    labels = {"app": "istio-ingressgateway", "istio": "ingressgateway"}
    assert deployment["spec"]["selector"]["matchLabels"] == labels
    assert "replicas" not in deployment["spec"], "a scaled gateway stays scaled"
    template = deployment["spec"]["template"]
    assert labels.items() <= template["metadata"]["labels"].items()
    assert template["metadata"]["labels"]["sidecar.istio.io/inject"] == "true"
    assert template["metadata"]["annotations"]["inject.istio.io/templates"] == "gateway"
    assert template["spec"]["serviceAccountName"] in named(installed, "ServiceAccount")
    (container,) = template["spec"]["containers"]
    assert (container["name"], container["image"]) == ("istio-proxy", "auto")
    assert [p["containerPort"] for p in container["ports"]] == [15021, 8080, 8443, 31400, 15443, 15090]


def test_the_pods_of_a_gateway_are_shaped_too():
    entry = {
        "name": "istio-ingressgateway",
        "k8s": {"replicaCount": 2, "env": [{"name": "X", "value": "y"}], "podAnnotations": {"a": "b"}},
    }
    volume = {"name": "certs", "secretName": "edge", "mountPath": "/etc/certs"}
    values = {"gateways": {"istio-ingressgateway": {"env": {"N": 1}, "secretVolumes": [volume]}}}
    installed = installation(operator(components={"ingressGateways": [entry]}, values=values))
    spec = named(installed, "Deployment")["istio-ingressgateway"]["spec"]
    assert spec["replicas"] == 2
    assert spec["template"]["metadata"]["annotations"]["a"] == "b"
    pod = spec["template"]["spec"]
    assert pod["containers"][0]["env"] == [{"name": "N", "value": "1"}, {"name": "X", "value": "y"}]
    assert pod["volumes"] == [{"name": "certs", "secret": {"secretName": "edge", "optional": True}}]
    assert pod["containers"][0]["volumeMounts"] == [{"name": "certs", "mountPath": "/etc/certs", "readOnly": True}]


@pytest.mark.parametrize(
    ("document", "path"),
    [
        (operator(profile="defualt"), "spec.profile"),
        (operator(meshConfg={}), "spec.meshConfg"),
        (operator(meshConfig={"accesLogFile": "x"}), "spec.meshConfig.accesLogFile"),
        (operator(meshConfig={"defaultConfig": {"concurrency": "x"}}), "spec.meshConfig.defaultConfig.concurrency"),
        (operator(values={"global": {"loging": {}}}), "spec.values.global.loging"),
        (operator(values={"globl": {}}), "spec.values.globl"),
        (operator(components={"pilto": {}}), "spec.components.pilto"),
        (operator(revision="canary"), "spec.revision"),
        (operator(namespace="other"), "spec.namespace"),
        ({**operator(), "kind": "IstioOperater"}, "kind"),
        ({**operator(), "apiVersion": "v1"}, "apiVersion"),
        ({**operator(), "specs": {}}, "specs"),
        ({**operator(), "spec": [1]}, ""),
        ([], ""),
        (operator(values={"global": []}), "spec.values.global"),
        (operator(values={"gateways": {"istio-ingressgateway": 1}}), "spec.values.gateways.istio-ingressgateway"),
        (
            operator(components={"ingressGateways": [{"name": "x", "k8s": "y"}]}),
            "spec.components.ingressGateways[x].k8s",
        ),
    ],
)
def test_a_faulty_field_is_refused_with_its_path(document, path):
    with pytest.raises(Invalid) as refused:
        installation(document)
    assert [cause["field"] for cause in refused.value.details["causes"]] == [path]


def test_fields_without_effect_are_told():
    installed = installation(operator(meshConfig={"ingressClass": "istio", "accessLogFile": "/x"}))
    assert installed.warnings == ("spec.meshConfig.ingressClass is accepted and has no effect yet",)


def test_settings_are_laid_over_the_file():
    changed = with_settings(
        operator(profile="default"),
        [
            "profile=minimal",
            "meshConfig.accessLogFile=/dev/stderr",
            "values.global.proxy.privileged=true",
            "spec.components.egressGateways[0].name=out",
            "values.sidecarInjectorWebhook.injectedAnnotations.a\\.b/c=d",
        ],
    )
    assert changed["spec"] == {
        "profile": "minimal",
        "meshConfig": {"accessLogFile": "/dev/stderr"},
        "values": {
            "global": {"proxy": {"privileged": True}},
            "sidecarInjectorWebhook": {"injectedAnnotations": {"a.b/c": "d"}},
        },
        "components": {"egressGateways": [{"name": "out"}]},
    }
    for bad in ("profile", "=x", "a[x]=1", "profile.name=x", "a[3].b=1"):
        with pytest.raises(Invalid):
            with_settings(operator(profile="default"), [bad])
