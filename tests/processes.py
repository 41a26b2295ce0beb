"""Scripts in processes of their own, which may kill themselves, without seconds of imports for each."""

import multiprocessing
import sys
import traceback

# What takes long to import.  The package itself is not among it: a script imports it, from the checkout.
HEAVY = ["torch", "sklearn.linear_model", "pandas", "skorch", "open_clip", "modAL.models"]
SECONDS = 600  # after which a script is stopped


def run_script(script, arguments, log):
    """Run Python source in a new process; return its exit code, negative for a signal.

    The process is forked from the fork server of multiprocessing, which imports what is heavy once, and runs nothing.
    A traceback goes into the file ``log``.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(HEAVY)
    process = context.Process(target=_execute, args=(script, arguments, log), daemon=True)
    process.start()
    process.join(SECONDS)
    if process.is_alive():
        process.kill()
        raise TimeoutError(f"the script still ran after {SECONDS} seconds")
    return process.exitcode


def _execute(script, arguments, log):
    sys.argv = ["-c", *arguments]
    with open(log, "w", encoding="utf-8") as file:
        try:
            exec(compile(script, "<script>", "exec"), {"__name__": "script"})
        except BaseException:
            traceback.print_exc(file=file)
            raise
