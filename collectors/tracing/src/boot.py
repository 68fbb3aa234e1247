# Loads pystrobe's agent into a program that is about to start, and leaves: as `sitecustomize`, because `site` imports that before the
# program's first line and after everything that the agent needs. For any Python that may come along, so it is also good Python 2.
import sys


def boot():
    os = sys.modules["os"]
    here = os.path.dirname(os.path.abspath(__file__))

    # As if this folder had never been named: neither the program nor what it starts shall find it.
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != here]
    sys.path_importer_cache.pop(here, None)
    if not os.path.exists(os.path.join(here, "subprocesses")):
        entries = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        entries = [entry for entry in entries if entry != here]
        if entries:
            os.environ["PYTHONPATH"] = os.pathsep.join(entries)
        else:
            os.environ.pop("PYTHONPATH", None)

    refusal = None
    version = "%d.%d" % sys.version_info[:2]
    kind = getattr(getattr(sys, "implementation", None), "name", "cpython")
    if kind != "cpython":
        refusal = "it is not CPython, but %s" % kind
    elif not (3, 8) <= sys.version_info[:2] <= (3, 15):
        refusal = "its Python is %s, not one of 3.8 to 3.15" % version
    elif "t" in getattr(sys, "abiflags", ""):
        refusal = "it is a free-threaded build of Python %s" % version
    else:
        try:
            spec = sys.modules["_frozen_importlib"].ModuleSpec("pystrobe_agent", None, origin=os.path.join(here, "pystrobe_agent.so"))
            imp = sys.modules["_imp"]
            agent = imp.create_dynamic(spec)
            imp.exec_dynamic(agent)
            agent.launch(here)
        except Exception as error:
            refusal = "%s" % (error,)
    if refusal is not None:
        try:
            with open(os.path.join(here, "refusal"), "w") as file:
                file.write(refusal)
        except (IOError, OSError):
            # pystrobe will say that the recording did not begin.
            pass


boot()
del boot, sys.modules["sitecustomize"]

# The one that would have been found without us, if there is one; else `site` hears what it would have heard.
import sitecustomize
