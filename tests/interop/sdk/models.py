"""Writes `src/sandbox/azure/arm/models.tsv`: which members the official SDK's models have.

The simulated Azure judges bodies by that table. Facts only: model, member, whether it must be there,
and what it is. `test_models.py` fails when the table and the pinned SDK differ.

    python tests/interop/sdk/models.py > src/sandbox/azure/arm/models.tsv
"""

import datetime
import enum
import typing

from azure.ai.ml._restclient.arm_ml_service import models
from azure.ai.ml._restclient.arm_ml_service._utils.model_base import Model

# What is written by `PUT` of each resource type that the simulated Azure keeps.
ROOTS = {
    "workspaces": "Workspace",
    "workspaces/jobs": "JobBase",
    "workspaces/models": "ModelContainer",
    "workspaces/models/versions": "ModelVersion",
    "workspaces/environments": "EnvironmentContainer",
    "workspaces/environments/versions": "EnvironmentVersion",
    "workspaces/components": "ComponentContainer",
    "workspaces/components/versions": "ComponentVersion",
    "workspaces/data": "DataContainer",
    "workspaces/data/versions": "DataVersionBase",
    "workspaces/codes": "CodeContainer",
    "workspaces/codes/versions": "CodeVersion",
    "workspaces/datastores": "Datastore",
    "workspaces/connections": "WorkspaceConnectionPropertiesV2BasicResource",
    "workspaces/computes": "ComputeResource",
    "workspaces/onlineendpoints": "OnlineEndpoint",
    "workspaces/onlineendpoints/deployments": "OnlineDeployment",
    "workspaces/batchendpoints": "BatchEndpoint",
    "workspaces/batchendpoints/deployments": "BatchDeployment",
    "workspaces/schedules": "Schedule",
}


class Table:
    def __init__(self):
        self.rows = set()
        self.seen = set()

    def shape(self, hint):
        """What a value of this type hint is, in the table's words."""
        origin, arguments = typing.get_origin(hint), typing.get_args(hint)
        if origin is typing.Union:
            members = [a for a in arguments if a is not type(None)]
            enums = [a for a in members if isinstance(a, type) and issubclass(a, enum.Enum)]
            if enums:
                return "one_of:" + "|".join(sorted(str(v.value) for v in enums[0]))
            return self.shape(members[0]) if len(members) == 1 else "any"
        if origin is typing.Literal:
            return "text"
        if origin in (list, typing.List):
            return "list:" + self.shape(arguments[0])
        if origin in (dict, typing.Dict):
            return "map:" + self.shape(arguments[1])
        if isinstance(hint, type) and issubclass(hint, Model):
            self.model(hint)
            return "model:" + hint.__name__
        if isinstance(hint, type) and issubclass(hint, enum.Enum):
            return "one_of:" + "|".join(sorted(str(v.value) for v in hint))
        plain = {str: "text", int: "number", float: "number", bool: "truth", bytes: "text"}
        if hint in (datetime.datetime, datetime.date, datetime.time, datetime.timedelta):
            return "text"
        return plain.get(hint, "any")

    def model(self, cls):
        if cls in self.seen:
            return
        self.seen.add(cls)
        cls.__new__(cls)
        hints = typing.get_type_hints(cls, vars(models) | {"_models": models}, None)
        for attribute, field in cls._attr_to_rest_field.items():
            if field._visibility == ["read"]:
                continue
            hint = hints[attribute]
            optional = type(None) in typing.get_args(hint)
            need, shape = "may" if optional else "must", self.shape(hint)
            if (need, shape) != ("may", "any"):
                self.rows.add((cls.__name__, field._rest_name, need, shape))
            if field._is_discriminator and "__mapping__" in vars(cls):
                for value, variant in cls.__mapping__.items():
                    value = str(getattr(value, "value", value))
                    if variant is not cls:
                        self.model(variant)
                        self.rows.add((cls.__name__, field._rest_name, f"is {value}", f"model:{variant.__name__}"))


def table():
    """The table's text."""
    made = Table()
    for root in ROOTS.values():
        made.model(getattr(models, root))
    for kind, root in ROOTS.items():
        made.rows.add((kind, "", "is", f"model:{root}"))
    return "".join("\t".join(row) + "\n" for row in sorted(made.rows))


if __name__ == "__main__":
    print(table(), end="")
