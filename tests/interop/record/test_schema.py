"""Records before the published OCSF schema, which a package of PyPI carries."""

import collections
import json

import jsonschema
import ocsf_json_schema
import pytest
from test_record import GOLDEN, log, records  # noqa: F401: a fixture

VERSION = "1.5.0"
schemas = ocsf_json_schema.OcsfJsonSchemaEmbedded(ocsf_json_schema.get_ocsf_schema(version=VERSION))
validators = {}


def validator(record):
    """Of the record's class with the profiles that it says it has."""
    profiles = tuple(record["metadata"].get("profiles", []))
    key = record["class_uid"], profiles
    if key not in validators:
        name = schemas.lookup_class_name_from_uid(class_uid=record["class_uid"])
        schema = schemas.get_class_schema(class_name=name, profiles=list(profiles))
        validators[key] = jsonschema.Draft202012Validator(schema)
    return validators[key]


def problems(record):
    assert record["metadata"]["version"] == VERSION
    return [f"{error.json_path}: {error.message[:200]}" for error in validator(record).iter_errors(record)]


@pytest.mark.parametrize("file", sorted(GOLDEN.glob("*.json")), ids=lambda file: file.stem)
def test_every_kind_of_record_is_of_its_class(file):
    assert problems(json.loads(file.read_text())) == []


def test_the_schema_refuses_what_is_not_of_its_class():
    record = json.loads((GOLDEN / "outcome.json").read_text())
    for change in ({"activity_id": 77}, {"invented": 1}, {"time": "now"}, {"actor": {}}):
        assert problems(record | change)


def test_the_record_of_a_gate_is_of_its_classes(log):  # noqa: F811
    wrong = collections.Counter()
    for line in records(log):
        wrong.update(problems(json.loads(line)))
    assert not wrong, wrong
