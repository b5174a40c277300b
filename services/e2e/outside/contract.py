"""What is published and stored, held against its contract by whoever has only the contract.

Events, and the contract's own examples: against the AsyncAPI document, the CloudEvents SDK, and messages generated from proto/.
Documents: against their JSON Schemas, which must name every property there is.

Usage: contract.py PROTO_DIR < JSON lines, each {"event": {"key", "headers", "payload"}} (payload in base64) or {"document": …}
"""

import base64
import importlib
import json
import pathlib
import sys
import tempfile

import yaml
from cloudevents.kafka import KafkaMessage, from_binary
from google.protobuf.json_format import MessageToDict, ParseDict
from grpc_tools import protoc
from jsonschema import Draft202012Validator
from referencing import Registry, Resource


def messages_of(contract):
    """The contract's messages by event type."""
    found = {}
    for reference in contract["channels"]["events"]["messages"].values():
        message = contract["components"]["messages"][reference["$ref"].rsplit("/", 1)[1]]
        headers = contract["components"]["schemas"][message["headers"]["$ref"].rsplit("/", 1)[1]]
        found[headers["allOf"][1]["properties"]["ce_type"]["const"]] = message
    return found


def kind_of(message, generated):
    """The protobuf message's class."""
    return getattr(generated, message["x-protobuf"]["message"].rsplit(".", 1)[1])


def check_event(event, contract, messages, generated):
    headers, payload = event["headers"], base64.b64decode(event["payload"])
    message = messages[headers["ce_type"]]
    schema = {**message["headers"], "components": contract["components"]}
    Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER).validate(headers)
    raw = KafkaMessage({name: value.encode() for name, value in headers.items()}, event["key"].encode(), payload)
    cloud = from_binary(raw, data_unmarshaller=bytes)
    assert (cloud["id"], cloud["type"], cloud["source"]) == (headers["ce_id"], headers["ce_type"], headers["ce_source"])
    assert headers["ce_partitionkey"] == cloud["subject"] == event["key"], event
    decoded = kind_of(message, generated).FromString(cloud.data)
    # What a schema does not know would be dropped here.
    decoded.DiscardUnknownFields()
    assert decoded.SerializeToString() and len(decoded.SerializeToString()) == len(payload), headers
    # Events of a recording or of a case: the one is named that the event is about, and only that.
    subjects = [getattr(decoded, name, "") for name in ("recording_id", "case_id")]
    assert [subject for subject in subjects if subject] == [event["key"]], event
    own = f"/caselock/bureaus/{decoded.bureau}"
    if headers["ce_source"] == own:
        assert int(headers["ce_sequence"]) // 8 == decoded.generation, headers
    else:
        assert headers["ce_source"] == f"{own}/registry" and int(headers["ce_sequence"]) > 0, headers
    return headers["ce_type"]


def check_example(kind, contract, messages, generated):
    """The one example of a message is an event as well, its payload in protobuf's JSON."""
    (example,) = messages[kind]["examples"]
    assert example["headers"]["ce_type"] == kind, kind
    payload = ParseDict(example["payload"], kind_of(messages[kind], generated)())
    assert MessageToDict(payload) == example["payload"], kind
    encoded = base64.b64encode(payload.SerializeToString())
    event = {"key": example["headers"]["ce_subject"], "headers": example["headers"], "payload": encoded}
    check_event(event, contract, messages, generated)


def closed(schema):
    """The same schema, letting nothing through that it does not name."""
    if isinstance(schema, dict):
        schema = {name: closed(value) for name, value in schema.items()}
        if schema.get("type") == "object" and "properties" in schema:
            schema["additionalProperties"] = False
    return [closed(value) for value in schema] if isinstance(schema, list) else schema


def main():
    proto = pathlib.Path(sys.argv[1])
    contract = yaml.safe_load((proto / "events.asyncapi.yaml").read_text())
    messages = messages_of(contract)
    schemas = [closed(json.loads(path.read_text())) for path in sorted(proto.glob("documents/*.schema.json"))]
    for schema in schemas:
        Draft202012Validator.check_schema(schema)
    registry = Registry().with_resources((schema["$id"], Resource.from_contents(schema)) for schema in schemas)
    validators = {
        schema["properties"]["media_type"]["const"]: Draft202012Validator(
            schema, registry=registry, format_checker=Draft202012Validator.FORMAT_CHECKER
        )
        for schema in schemas
        if "media_type" in schema["properties"]
    }
    seen = {"events": {}, "documents": {}}
    with tempfile.TemporaryDirectory() as folder:
        source = str(proto / "caselock/events/v1/events.proto")
        assert protoc.main(["protoc", f"-I{proto}", f"--python_out={folder}", source]) == 0
        sys.path.insert(0, folder)
        generated = importlib.import_module("caselock.events.v1.events_pb2")
        for kind in messages:
            check_example(kind, contract, messages, generated)
        for line in sys.stdin:
            item = json.loads(line)
            if "event" in item:
                kind = check_event(item["event"], contract, messages, generated)
                seen["events"][kind] = seen["events"].get(kind, 0) + 1
                continue
            documents = [item["document"]]
            if "receipt" in documents[0]:
                documents.append(json.loads(base64.b64decode(documents[0]["receipt"]["payload"])))
            for document in documents:
                validators[document["media_type"]].validate(document)
                seen["documents"][document["media_type"]] = seen["documents"].get(document["media_type"], 0) + 1
    unseen = (messages.keys() - seen["events"].keys()) | (validators.keys() - seen["documents"].keys())
    print(json.dumps({**seen, "unseen": sorted(unseen)}))


if __name__ == "__main__":
    main()
