"""Argo's reading of a workflow, as far as what we export uses it: DAGs, pods, suspension, exit handlers.

A pod is its command, in a thread of its own; what it is told by files and variables, it is told so here.
The rules are those that Argo documents: a task is looked at when all that its ``depends`` names is over; if
that does not hold, it is omitted; if its ``when`` does not, it is skipped. A name alone stands for
``Succeeded`` or ``Skipped``. The phase of a DAG is that of its leaves, where a leaf that was omitted is as
bad as what it depended on. A workflow that was stopped begins nothing more but its exit handler.
"""

import re
import threading

import typer

from cachefs.cli import exits, main
from cachefs.errors import CacheFSError
from cachefs.transport.runtime import ThreadRuntime

RUNTIME = ThreadRuntime()
OVER = ("Succeeded", "Failed", "Skipped", "Omitted")
LIMIT_SECONDS = 60.0


class Workflow:
    """One that is carried out; ``nodes`` says how far it is."""

    def __init__(self, document, folder, *, uid="1", params=None, resume=lambda _name: True):
        """Take what ``kubectl create`` would.

        Args:
            document: The workflow.
            folder: Where pods have their files.
            uid: Its own.
            params: Arguments that differ from its own.
            resume: Asked of each suspended node; returns when it is resumed, false if it is stopped.
        """
        self._spec = document["spec"]
        self._templates = {one["name"]: one for one in self._spec["templates"]}
        self._folder = folder
        self._resume = resume
        self._values = {
            "workflow.uid": uid,
            "workflow.name": f"{document['metadata']['generateName']}x",
            "workflow.namespace": "argo",
        }
        given = {one["name"]: one.get("value") for one in self._spec["arguments"]["parameters"]}
        for name, value in {**given, **(params or {})}.items():
            self._values[f"workflow.parameters.{name}"] = value
        self.nodes = {}
        self.codes = {}
        self.stopped = threading.Event()
        self._threads = []

    def run(self):
        """Carry it out, and return its phase."""
        phase = self._dag(self._spec["entrypoint"])
        last = self._dag(self._spec["onExit"], is_last=True)
        for thread in self._threads:
            thread.join(LIMIT_SECONDS)
        return last if phase == "Succeeded" else phase

    def _dag(self, name, *, is_last=False):
        tasks = {one["name"]: one for one in self._templates[name]["dag"]["tasks"]}
        states = dict.fromkeys(tasks, "")
        until = RUNTIME.monotonic() + LIMIT_SECONDS
        while not all(state in OVER for state in states.values()):
            assert RUNTIME.monotonic() < until, states
            if self.stopped.is_set() and not is_last:
                states = {
                    key: state if state in OVER else "Failed" for key, state in states.items()
                }
            for key, task in tasks.items():
                if states[key]:
                    continue
                known = _Depends(task.get("depends", ""), states)
                if known.ready:
                    self._begin(task, states, holds=known.holds)
            RUNTIME.sleep(0.01)
        self.nodes.update(states)
        return _phase(tasks, states)

    def _begin(self, task, states, *, holds):
        if not holds:
            states[task["name"]] = "Omitted"
        elif "when" in task and not self._when(task["when"]):
            states[task["name"]] = "Skipped"
        else:
            states[task["name"]] = "Running"
            thread = threading.Thread(target=self._node, args=(task, states), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _when(self, text):
        left, right = self._filled(text, {}).split(" == ")
        return left == right

    def _node(self, task, states):
        template = self._templates[task["template"]]
        if "suspend" in template:
            good = self._resume(task["name"])
        else:
            good = self._pod(task, template) == 0
        states[task["name"]] = "Succeeded" if good else "Failed"

    def _pod(self, task, template):
        inputs = {
            f"inputs.parameters.{one['name']}": self._filled(one["value"], {})
            for one in task.get("arguments", {}).get("parameters", [])
        }
        folder = self._folder / task["name"]
        folder.mkdir()
        files = {}
        for artifact in template.get("inputs", {}).get("artifacts", []):
            files[artifact["path"]] = folder / "artifact"
            files[artifact["path"]].write_text(self._filled(artifact["raw"]["data"], inputs))
        outputs = template.get("outputs", {}).get("parameters", [])
        for output in outputs:
            files[output["valueFrom"]["path"]] = folder / "output"
        assert template["container"]["command"] == ["cachefs"]
        arguments = [self._filled(one, inputs) for one in template["container"]["args"]]
        code = self._command([str(files.get(one, one)) for one in arguments])
        self.codes[task["name"]] = code
        for output in outputs if code == 0 else ():
            value = files[output["valueFrom"]["path"]].read_text()
            self._values[f"tasks.{task['name']}.outputs.parameters.{output['name']}"] = value
        return code

    def _command(self, arguments):
        try:
            code = typer.main.get_command(main.app)(arguments, standalone_mode=False)
        except CacheFSError as error:
            return exits.exit_code(error)
        except typer.Exit as ended:
            return ended.exit_code
        return code or 0

    def _filled(self, text, inputs):
        """Return a text with its templates filled in; a pod of one that cannot be would not begin."""
        return re.sub(r"\{\{(.*?)\}\}", lambda found: {**self._values, **inputs}[found[1]], text)


class _Depends:
    """What a task's ``depends`` says at this moment."""

    def __init__(self, text, states):
        names = re.findall(r"[A-Za-z][A-Za-z0-9-]*(?:\.[A-Z][a-z]+)?", text)
        self.ready = all(states[name.partition(".")[0]] in OVER for name in names)
        self.holds = not text or _holds(text, states)


def _holds(text, states):
    """Evaluate ``a && (b.Failed || c)``: no deeper than what is exported."""

    def one(name):
        task, _, state = name.partition(".")
        return states[task] in ((state,) if state else ("Succeeded", "Skipped"))

    def either(part):
        return any(one(name) for name in part.strip("() ").split(" || "))

    return all(either(part) for part in text.split(" && "))


def _phase(tasks, states):
    needed = {
        name.partition(".")[0]
        for task in tasks.values()
        for name in re.findall(r"[A-Za-z][A-Za-z0-9.-]*", task.get("depends", ""))
    }

    def bad(name):
        if states[name] != "Omitted":
            return states[name] == "Failed"
        names = re.findall(r"[A-Za-z][A-Za-z0-9-]*", tasks[name].get("depends", ""))
        return any(bad(one) for one in names if one in tasks)

    return "Failed" if any(bad(name) for name in tasks if name not in needed) else "Succeeded"
