from pilotfish.api.decode import decode
from pilotfish.api.istio_validation import istio_operator
from pilotfish.api.kinds import ISTIO_OPERATOR


def operator_faults(spec):
    operator = decode(ISTIO_OPERATOR, {"metadata": {"name": "x"}, "spec": spec})
    return {fault.path: fault.message for fault in istio_operator(operator)}


def test_an_operator_is_checked_in_outline():
    good = {
        "profile": "default",
        "components": {"pilot": {"hub": "istio", "tag": "1.10.4"}, "ingressGateways": [{"name": "x", "enabled": True}]},
    }
    assert operator_faults(good) == {}
    assert '"minimal"' in operator_faults({"profile": "defualt"})["spec.profile"]
    bad = {"pilto": {}, "pilot": {"hubb": "x", "enabled": "yes"}, "ingressGateways": [{}], "egressGateways": {}}
    assert set(operator_faults({"components": bad})) == {
        "spec.components.pilto",
        "spec.components.pilot.hubb",
        "spec.components.pilot.enabled",
        "spec.components.ingressGateways[0].name",
        "spec.components.egressGateways",
    }
