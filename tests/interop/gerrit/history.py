"""People, rules and changes at a Gerrit: every way in which a commit can come, or not come, to a branch."""

import itertools
import urllib.parse
import uuid

from server import git

BRANCH = "main"
OTHER_BRANCH = "release"
# Azure's object id of a person, which its plugin for Gerrit makes an external id of.
OBJECT_IDS = {
    name: str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{name}.x.example")) for name in ("ana", "bo", "cy", "dee", "robot")
}
PEOPLE = {
    "ana": "Ana", "bo": "Bo", "cy": "Cy", "dee": "Dee", "eve": "Eve", "ana2": "Ana, as she was once",
    "robot": "Build robot", "gate": "The gate", "narrow": "A gate with few rights",
}
# The rule that the documentation recommends: who made a change, in whichever way, does not approve it.
INDEPENDENT = {
    "name": "Independent-Review",
    "submittability_expression": "label:Code-Review=MAX,user=non_contributor AND -label:Code-Review=MIN",
    "allow_override_in_child_projects": False,
}
# In place of what Gerrit itself demands everywhere: approved by anybody, whoever else objects.
LENIENT = {"name": "Code-Review", "submittability_expression": "label:Code-Review=MAX"}


def quoted(name):
    return urllib.parse.quote(name, safe="")


def mail(name):
    return f"{name}@x.example"


class History:
    """The accounts and projects of one server, and the changes that tests make there."""

    def __init__(self, gerrit):
        self.gerrit = gerrit
        self.admin = gerrit.as_("admin")
        self.gate = gerrit.as_("gate")
        self.numbers = itertools.count(1)
        self.work = gerrit.repository("work")
        self.accounts, self.groups = {}, {}
        self.projects = {}
        self.make_people()
        self.make_rules()
        # As the provider's plugin does it when a person signs in for the first time.
        for name, identity in OBJECT_IDS.items():
            self.join(name, identity)
        # What the plugin called the same people before.
        self.join("ana2", OBJECT_IDS["ana"], "office365-oauth")

    # --- who is there, and who may do what

    def make_people(self):
        for name, full in PEOPLE.items():
            made = self.admin.put(
                f"accounts/{name}", {"name": full, "email": mail(name), "http_password": self.gerrit.password(name)}
            )
            self.accounts[name] = made["_account_id"]
        # An address of Dee's beside the one that she is known by.
        self.admin.put(f"accounts/dee/emails/{quoted('dee@home.example')}", {"no_confirmation": True})
        self.make_group("ml-reviewers", "ana", "bo", "cy", "dee", "eve", "ana2", "robot")
        self.make_group("ml-leads", "cy")
        # One group within another: whoever asks for members must ask for those of its groups too.
        self.make_group("ml-approvers", "bo")
        self.admin.put(f"groups/ml-approvers/groups/{self.groups['ml-leads']}")
        self.make_group("gates that see accounts", "gate")
        self.make_group("unseen", "bo", seen=False)
        self.admin.put("groups/Service Users/members/robot")
        self.admin.put("groups/Service Users/members/gate")
        self.groups["admins"] = self.admin.get("groups/Administrators")["id"]

    def join(self, name, identity, scheme="azure-oauth"):
        """Ties an account to a person of Azure's."""
        self.gerrit.external_id(self.accounts[name], f"{scheme}:{identity}", mail(name))

    def make_group(self, name, *members, seen=True):
        # A group that is not shown to all is, for whoever is not in it, no group.
        made = self.admin.put(f"groups/{quoted(name)}", {"members": list(members), "visible_to_all": seen})
        self.groups[name] = made["id"]

    def make_rules(self):
        allow = {"action": "ALLOW"}
        reviewers, admins = self.groups["ml-reviewers"], self.groups["admins"]
        whole = {"rules": {reviewers: allow | {"min": -2, "max": 2}, admins: allow | {"min": -2, "max": 2}}}
        submit = {"rules": {reviewers: allow, admins: allow}}
        self.admin.post("projects/All-Projects/access", {"add": {
            "refs/heads/*": {"permissions": {
                "label-Code-Review": whole | {"label": "Code-Review"},
                "submit": submit,
                "push": {"rules": {admins: allow | {"force": True}}},
            }},
            "refs/for/refs/heads/*": {"permissions": {"submit": {"rules": {admins: allow}}}},
            "GLOBAL_CAPABILITIES": {"permissions": {
                "accessDatabase": {"rules": {admins: allow}},
                "viewSecondaryEmails": {"rules": {self.groups["gates that see accounts"]: allow}},
                "modifyAccount": {"rules": {self.groups["gates that see accounts"]: allow}},
            }},
        }})
        self.admin.post("projects/All-Users/access", {"add": {"refs/meta/external-ids": {"permissions": {
            name: {"exclusive": True, "rules": {admins: allow}} for name in ("read", "push")
        }}}})

    def project(self, name, action, *requirements):
        """The project of that name, made when it is first asked for."""
        if name not in self.projects:
            self.admin.put(f"projects/{quoted(name)}", {
                "create_empty_commit": True, "submit_type": action, "branches": [BRANCH, OTHER_BRANCH],
            })
            for requirement in requirements or [INDEPENDENT]:
                self.admin.put(f"projects/{quoted(name)}/submit_requirements/{requirement['name']}", requirement)
            self.projects[name] = Project(self, name)
        return self.projects[name]


class Project:
    """One project, and what people do there."""

    def __init__(self, history, name):
        self.history, self.name, self.work = history, name, history.work

    def fetch(self, ref=f"refs/heads/{BRANCH}"):
        git(self.work, "fetch", "--quiet", self.history.gerrit.remote("admin", self.name), ref)
        return git(self.work, "rev-parse", "FETCH_HEAD")

    def commit(self, committer="ana", author=None, parents=None, change=None, text=None):
        """A commit that adds a file of its own; `change` continues a change, which makes the commit a patch set."""
        number = next(self.history.numbers)
        parents = parents or [self.fetch()]
        text = text or f"print({number})\n"
        blob = git(self.work, "hash-object", "-w", "--stdin", input=text)
        below = git(self.work, "ls-tree", parents[0])
        name = f"train-{change.file if change else number}.py"
        kept = [line for line in below.splitlines() if not line.endswith(f"\t{name}")]
        tree = git(self.work, "mktree", input="\n".join([*kept, f"100644 blob {blob}\t{name}"]) + "\n")
        identity = change.identity if change else f"I{number:040x}"
        author = author or mail(committer)
        message = f"Train with {name}\n\nChange-Id: {identity}\n"
        sha = git(
            self.work, "commit-tree", tree, *itertools.chain(*(["-p", parent] for parent in parents)), "-m", message,
            GIT_AUTHOR_NAME=author.split("@")[0], GIT_AUTHOR_EMAIL=author,
            GIT_COMMITTER_NAME=committer, GIT_COMMITTER_EMAIL=mail(committer),
        )
        return sha, identity, change.file if change else number

    def push(self, sha, ref, by="ana", force=False):
        remote = self.history.gerrit.remote(by, self.name)
        git(self.work, "push", "--quiet", *(["--force"] if force else []), remote, f"{sha}:{ref}")

    def change(self, by="ana", options="", branch=BRANCH, **commit):
        """A commit pushed for review."""
        sha, identity, file = self.commit(by, **commit)
        self.push(sha, f"refs/for/{branch}{options}", by)
        return self.found(sha, branch, identity, file)

    def found(self, sha, branch, identity, file):
        found = self.history.admin.get("changes/", q=f"commit:{sha} project:{self.name} branch:{branch}")
        assert len(found) == 1, found
        return Change(self, found[0]["_number"], identity, file, sha)

    def reviewed(self, by="bo", **change):
        """A change that somebody else approved."""
        change = self.change(**change)
        change.vote(by, 2)
        return change

    def case(self, sha, branch=BRANCH):
        return Case(self.name, branch, sha)


class Change:
    """One change, the commit that is its newest patch set as far as its owner knows, and what happens to it."""

    def __init__(self, project, number, identity, file, sha):
        self.project, self.number, self.identity, self.file, self.sha = project, number, identity, file, sha
        self.path = f"changes/{quoted(project.name)}~{number}"
        self.as_ = project.history.gerrit.as_

    def vote(self, who, value, **more):
        self.as_(who).post(f"{self.path}/revisions/current/review", {"labels": {"Code-Review": value}} | more)

    def submit(self, by="cy"):
        """The commit that came to the branch, as Gerrit tells it."""
        self.as_(by).post(f"{self.path}/submit")
        return self.current()

    def current(self):
        return self.as_("admin").get(self.path, o="CURRENT_REVISION")["current_revision"]

    def again(self, by="ana", options="", **commit):
        """A further patch set."""
        self.sha, _, _ = self.project.commit(by, change=self, **commit)
        self.project.push(self.sha, f"refs/for/{BRANCH}{options}", by)
        return self.sha


class Case:
    """A commit that somebody wants to register a model from, and whereto it is said to be merged."""

    def __init__(self, project, branch, sha):
        self.project, self.branch, self.sha = project, branch, sha
