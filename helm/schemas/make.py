#!/usr/bin/env python3
"""Makes the JSON Schemas that charts are checked against (kubeconform, strictly), of the kinds that the chart has, from Go modules: of Kubernetes'
own kinds from its OpenAPI document, of custom ones from their CRDs. Strimzi has no such module: kafkatopic is written by hand.

Usage: helm/schemas/make.py    (needs go, and PyYAML)
"""

import json
import pathlib
import subprocess

import yaml

KUBERNETES = "k8s.io/kubernetes@v1.34.2"
KINDS = {
    ("apps", "v1", "Deployment"),
    ("", "v1", "ConfigMap"),
    ("", "v1", "Pod"),
    ("", "v1", "Secret"),
    ("", "v1", "Service"),
    ("", "v1", "ServiceAccount"),
    ("autoscaling", "v2", "HorizontalPodAutoscaler"),
    ("batch", "v1", "Job"),
    ("networking.k8s.io", "v1", "Ingress"),
    ("networking.k8s.io", "v1", "NetworkPolicy"),
    ("policy", "v1", "PodDisruptionBudget"),
    ("scheduling.k8s.io", "v1", "PriorityClass"),
}
CRDS = [
    ("github.com/kedacore/keda/v2@v2.21.0", "config/crd/bases/keda.sh_scaledobjects.yaml"),
    ("github.com/kedacore/keda/v2@v2.21.0", "config/crd/bases/keda.sh_triggerauthentications.yaml"),
    ("github.com/cert-manager/cert-manager@v1.19.1", "deploy/crds/cert-manager.io_certificates.yaml"),
    ("github.com/prometheus-operator/prometheus-operator@v0.85.0", "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml"),
    ("github.com/prometheus-operator/prometheus-operator@v0.85.0", "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml"),
]
HERE = pathlib.Path(__file__).parent


def module(name):
    """The folder of a Go module."""
    found = subprocess.run(["go", "mod", "download", "-json", name], check=True, capture_output=True, cwd="/")
    return pathlib.Path(json.loads(found.stdout)["Dir"])


def strict(schema, refer):
    """Without descriptions; with nothing allowed that is not named; references as `refer` has them."""
    if isinstance(schema, list):
        return [strict(one, refer) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if isinstance(schema.get("$ref"), str):
        return {"$ref": refer(schema["$ref"].split("/")[-1])}
    if schema.get("format") == "int-or-string" or schema.get("x-kubernetes-int-or-string"):
        return {"oneOf": [{"type": "string"}, {"type": "integer"}]}
    drop = ("description", "format", "pattern", "x-kubernetes")
    kept = {
        key: {name: strict(one, refer) for name, one in value.items()} if key == "properties" else strict(value, refer)
        for key, value in schema.items()
        if not (isinstance(value, (str, list, bool)) and key.startswith(drop))
    }
    if "properties" in kept and not schema.get("x-kubernetes-preserve-unknown-fields"):
        kept.setdefault("additionalProperties", False)
    return kept


def write(group, version, kind, schema, name):
    """A file of one kind."""
    schema["properties"]["apiVersion"] = {"enum": [f"{group}/{version}" if group else version]}
    schema["properties"]["kind"] = {"enum": [kind]}
    schema["properties"].pop("status", None)
    schema["required"] = sorted({*schema.get("required", []), "apiVersion", "kind"} - {"status"})
    dump(name, schema)


def dump(name, data):
    (HERE / name).write_text(json.dumps(data, separators=(",", ":"), sort_keys=True) + "\n")


def kubernetes():
    document = json.loads((module(KUBERNETES) / "api/openapi-spec/swagger.json").read_text())
    definitions, used = document["definitions"], {}

    def refer(name):
        if name not in used:
            used[name] = None
            used[name] = strict(definitions[name], refer)
            if name.endswith("api.resource.Quantity"):
                used[name] = {"oneOf": [{"type": "string"}, {"type": "number"}]}
        return "_definitions.json#/definitions/" + name

    for definition in definitions.values():
        for of in definition.get("x-kubernetes-group-version-kind", []):
            group, version, kind = of["group"], of["version"], of["kind"]
            if (group, version, kind) in KINDS:
                suffix = f"-{group.split('.')[0]}" if group else ""
                write(group, version, kind, strict(definition, refer), f"{kind.lower()}{suffix}-{version}.json")
    dump("_definitions.json", {"definitions": used})


def custom():
    for name, path in CRDS:
        crd = yaml.safe_load((module(name) / path).read_text())["spec"]
        kind, group = crd["names"]["kind"], crd["group"]
        for version in crd["versions"]:
            schema = strict(version["schema"]["openAPIV3Schema"], None)
            schema["properties"]["metadata"] = {"$ref": "_definitions.json#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}
            write(group, version["name"], kind, schema, f"{kind.lower()}-{group.split('.')[0]}-{version['name']}.json")


kubernetes()
custom()
