"""One Gerrit for the suite, with people, rules and changes, and what it answers about them."""

import json
import os
import pathlib

import pytest
from cases import CASES
from history import History, quoted
from server import Gerrit, Refused

# Everything that the review gate reads of a change.
OPTIONS = [
    "ALL_REVISIONS", "ALL_COMMITS", "DETAILED_LABELS", "DETAILED_ACCOUNTS", "SUBMIT_REQUIREMENTS", "MESSAGES",
]
# Where to keep every answer, for those who write tests of what is made of them.
KEPT = os.environ.get("AMLGATE_GERRIT_ANSWERS")


@pytest.fixture(scope="session")
def gerrit(tmp_path_factory):
    gerrit = Gerrit(tmp_path_factory.mktemp("gerrit"))
    try:
        gerrit.start()
        yield gerrit
    finally:
        gerrit.remove()


@pytest.fixture(scope="session")
def history(gerrit):
    return History(gerrit)


class Told:
    """What Gerrit tells about the commit of a case, asked as the gate asks."""

    def __init__(self, history, case):
        self.history, self.case = history, case
        self.asked = {}

    def get(self, path, **query):
        answer = self.history.gate.get(path, **query)
        self.asked[f"{path} {json.dumps(query)}"] = answer
        return answer

    def read(self):
        case = self.case
        self.changes = self.get("changes/", q=f'commit:{case.sha} project:"{case.project}"', o=OPTIONS)
        reachable = self.get(
            f"projects/{quoted(case.project)}/commits:in", commit=case.sha, ref=f"refs/heads/{case.branch}"
        )
        self.on_branch = reachable == {case.sha: [f"refs/heads/{case.branch}"]}
        assert self.on_branch or reachable == {}, reachable
        return self

    @property
    def change(self):
        assert len(self.changes) == 1, self.changes
        return self.changes[0]

    @property
    def is_current(self):
        return self.change["current_revision"] == self.case.sha

    @property
    def requirements(self):
        return {r["name"]: r["status"] for r in self.change["submit_requirements"]}

    @property
    def votes(self):
        """Who voted what; who was only asked to is told with a nought."""
        return {v["username"]: v for v in self.change["labels"]["Code-Review"]["all"]}

    @property
    def revision(self):
        return self.change["revisions"][self.case.sha]

    @property
    def before(self):
        """The patch set before the current one."""
        number = self.revision["_number"] - 1
        return next(r for r in self.change["revisions"].values() if r["_number"] == number)


@pytest.fixture(scope="session")
def tell(history):
    """What is told of a case, which is made when it is first asked for."""
    told = {}

    def tell(name):
        if name not in told:
            case = CASES[name](history)
            told[name] = Told(history, case).read()
            if KEPT:
                kept = {"project": case.project, "branch": case.branch, "sha": case.sha, "answers": told[name].asked}
                pathlib.Path(KEPT, f"{name}.json").write_text(json.dumps(kept, indent=1))
        return told[name]

    return tell


@pytest.fixture(scope="session")
def refusal():
    """What is refused, as status and text."""

    def refusal(ask, *arguments, **query):
        with pytest.raises(Refused) as refused:
            ask(*arguments, **query)
        return refused.value.status, refused.value.text.strip()

    return refusal
