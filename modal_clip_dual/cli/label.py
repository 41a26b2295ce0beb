"""The command ``modal-clip-dual label``."""

from __future__ import annotations

import argparse
import socket
import sys
import threading
import warnings
import webbrowser
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..strategies.registry import available_strategies
from ..utils.validation import PRECISIONS
from .parsing import (
    LEARNERS,
    LINEAR,
    PROMPTS,
    check_file,
    find_own_strategies,
    learner,
    listed,
    names_in,
    positive_int,
    refuse,
    strategy,
)

DEFAULT_LEARNER = "dual-linear"
SAVE_ELSEWHERE = "; --state FILE saves elsewhere"

LABEL = """\
Label a folder of images in the browser.  A CLIP and what learns on it (--learner; a linear head if
nothing is said) guess every label, from the class names alone at first; the page shows the images
that are worth asking about, under the class that they are taken for.  Correct the wrong ones,
confirm the rest with one key; the model learns behind the page, and the next images come.

Every answer is saved at once, in a file beside the images.  The same command goes on where it was
stopped, however that happened.  The page is served on this machine only, under an address that
nobody can guess.
"""

EXAMPLES = """\
examples:
  modal-clip-dual label photos --classes "cat,dog,neither"
  modal-clip-dual label photos --classes names.txt --template "a satellite photo of {}." --budget 300
  modal-clip-dual label scans --classes "zero,one,two" --model demo
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    label = commands.add_parser(
        "label",
        help="label a folder of images in the browser",
        description=LABEL,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = label.add_argument
    add("folder", type=Path, metavar="FOLDER", help="the images, also those in folders below it")
    add("--classes", nargs="+", action=listed(str), metavar="A,B,...",
        help="names of the classes, or a text file with one per line (default: the folders in FOLDER)")  # fmt: skip
    add("--folder-labels", action="store_true",
        help="images in a folder called like a class have that label (default: they are asked for, too)")  # fmt: skip
    add("--model", help="open_clip's name of the CLIP (default: ViT-B-16, which is downloaded once); demo is the "
        "small one that ships with the package: it works offline, and knows little")  # fmt: skip
    add("--pretrained", help="open_clip's tag of its weights (default: openai; bundled for demo)")
    add("--template", action="append", metavar="TEXT",
        help='hand-written prompt with {} for the class name; may be given several times (default: '
             '"a photo of a {}.")')  # fmt: skip
    add("--learner", type=learner, metavar="NAME",
        help=f"what learns: {', '.join(LEARNERS)} (default: dual-linear, a linear head that learns in seconds; the "
             "prompts of the paper take longer, on a CPU minutes)")  # fmt: skip
    add("--calibration", choices=("judge", "own", "transductive"),
        help="who estimates the accuracy: a second model, or the labels, which trains up to ten times more (default: "
             "the learner itself if it is dual-linear, else judge)")  # fmt: skip
    add("--strategy", type=strategy, default="auto",
        help=f"what chooses the images: {', '.join(available_strategies())}, or your own function as "
             "package.module:function (default: auto)")  # fmt: skip
    add("--batch", type=positive_int, default=20, metavar="N", help="images of a grid (default: 20)")
    add("--random", type=int, default=2, metavar="N",
        help="how many of these are drawn at random, as a fair check of the model (default: 2)")  # fmt: skip
    add("--budget", type=positive_int, metavar="N", help="labels after which to stop (default: none)")
    add("--annotator", metavar="NAME", help="who answers; written down with every answer")
    add("--state", type=Path, metavar="FILE", help="where everything is saved (default: FOLDER/labels.npz)")
    add("--device", default="auto", help='torch device (default: auto: "cuda" if there is one)')
    add("--precision", choices=PRECISIONS,
        help="precision of the CLIP: on a processor with instructions for bfloat16, bf16 encodes images in half the "
             "time (default: what the labels were begun with; at first auto, fp32 on a processor)")  # fmt: skip
    add("--cache", default="disk", metavar="DIR",
        help="where embeddings are kept, so that no image is encoded twice: disk is the user's cache folder, memory "
             "keeps them until the end (default: disk)")  # fmt: skip
    add("--host", default="127.0.0.1",
        help="address to listen on; others than 127.0.0.1 let people in who know the page's address")  # fmt: skip
    add("--port", type=int, default=0, help="port to listen on (default: any that is free)")
    add("--no-browser", action="store_true", help="only print the address of the page")
    label.set_defaults(run=run_label)


def run_label(args: argparse.Namespace) -> int:
    """Serve the page until Ctrl-C; return the exit status."""
    from ..label.server import LOOPBACK, check_installed, listen, new_token, serve

    try:
        check_installed()
        check_numbers(args)
        listener = listen(args.host, args.port)  # before a CLIP is loaded, so that a port in use is told at once
        with closed_on_error(listener):
            session = make_session(args)
    except (OSError, TypeError, ValueError, ImportError, RuntimeError) as error:
        if args.traceback:
            raise
        return refuse(error)
    token, port = new_token(), listener.getsockname()[1]
    open_to_others = args.host not in LOOPBACK
    hosts = hosts_of(args.host) if open_to_others else LOOPBACK
    url = f"http://{shown_host(args.host)}:{port}/{token}/"
    if open_to_others:
        print(
            f"warning: --host {args.host} lets everyone in who reaches this machine and knows the address below; it "
            "is sent without encryption, so use it in networks that you trust",
            file=sys.stderr,
        )
    print(f"Label at {url}\nEverything is saved in {session.learner.path}.  Ctrl-C ends the program.", flush=True)
    if not args.no_browser:
        threading.Timer(0.5, webbrowser.open, [url]).start()
    serve(session, listener, token, hosts)
    print(f"{session.n_labeled():,} labels in {session.learner.path}; the same command goes on.")
    return 0


@contextmanager
def closed_on_error(listener: socket.socket) -> Iterator[None]:
    """Close a socket if the block raises."""
    try:
        yield
    except BaseException:
        listener.close()
        raise


def check_numbers(args: argparse.Namespace) -> None:
    """Refuse numbers that do not fit.

    Raises
    ------
    ValueError
        Names the argument.
    """
    if not 0 <= args.port <= 65535:
        raise ValueError(f"--port {args.port}; expected 0 to 65535")
    if not 0 <= args.random <= args.batch:
        raise ValueError(f"--random {args.random}; expected 0 to the {args.batch} images of --batch")
    if args.annotator is not None and not args.annotator.strip():
        raise ValueError(f"--annotator {args.annotator!r}; expected a name, or leave it out")


def shown_host(host: str) -> str:
    """Return how the page is called from here: addresses that mean all of this machine are no names for it."""
    if host in ("0.0.0.0", "::"):
        return socket.gethostname()
    return f"[{host}]" if ":" in host else host


def hosts_of(host: str) -> list[str]:
    """Return the names by which the page may be called where others may reach it."""
    from ..label.server import ANY_ADDRESS, LOOPBACK

    return [*LOOPBACK, host, socket.gethostname(), ANY_ADDRESS]


def make_session(args: argparse.Namespace) -> Any:
    """Return the session that the arguments describe: a new one, or the one that was saved.

    Raises
    ------
    OSError, RuntimeError, TypeError, ValueError
        If something does not fit, before a CLIP is loaded and any image is read.
    """
    from ..clip.inputs import check_cache
    from ..clip.names import resolve_device
    from ..data import list_images
    from ..label import LabelSession
    from ..label.work import CHANGED

    folder = args.folder.absolute()
    if not folder.is_dir():
        raise NotADirectoryError(f"FOLDER {str(args.folder)!r} is not a folder")
    check_cache(args.cache, None)
    check_cache_folder(args.cache)
    resolve_device(args.device)
    state = (args.state or folder / "labels.npz").absolute()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of other files in the folder, the state file among them
        paths = [str(path) for path in list_images(folder)]
    find_own_strategies([args.strategy])
    if state.exists():
        loop, changed = _resumed(args, state, folder)
        known = set(map(str, loop.X_pool))
        new = [path for path in paths if path not in known] + changed
    else:
        if not paths:
            raise ValueError(f"FOLDER {str(args.folder)!r} holds no images")
        loop, new = _begun(args, state, paths, class_names_of(args, folder)), []
        changed = []
    names = list(loop.estimator.class_names.values())
    labels = {path: Path(path).parent.name for path in paths} if args.folder_labels else {}
    session = LabelSession(
        loop,
        n_instances=args.batch,
        n_random=args.random,
        new_paths=new,
        labels={path: name for path, name in labels.items() if name in names},
        annotator=args.annotator,
    )
    session.unreadable += [(path, CHANGED) for path in changed]
    return session


def check_cache_folder(cache: str) -> None:
    """Refuse a folder of ``--cache`` that is not there and cannot be made, or not written to.

    Raises
    ------
    ValueError
        Names the folder.
    """
    from ..utils.persistence import check_writable

    if cache in ("disk", "memory"):
        return
    try:
        Path(cache).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"--cache {cache!r} cannot be made: {error.strerror or error}") from error
    check_writable(cache, "; --cache DIR keeps embeddings elsewhere")


def class_names_of(args: argparse.Namespace, folder: Path) -> list[str]:
    """Return the class names: those of the command line, or of the folders in the folder.

    Raises
    ------
    ValueError
        If there are fewer than two, or one comes twice.
    """
    from ..data import load_image_folder

    if args.classes:
        names = names_in(args.classes)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            try:
                names = load_image_folder(folder).class_names
            except ValueError as error:
                raise ValueError(f"{error}; or name the classes: --classes cat,dog") from error
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if len(names) < 2 or twice:
        problem = f"{twice[0]!r} comes twice" if twice else f"{names}; expected at least two"
        raise ValueError(f"--classes: {problem}")
    return list(names)


def _begun(args: argparse.Namespace, state: Path, paths: Sequence[str], names: list[str]) -> Any:
    from .. import DualPromptLearner, get_strategy
    from ..active import StablePredictions
    from ..active.locking import check_free
    from ..clip.backbone import load_backbone
    from ..clip.names import check_model_name
    from ..clip.templates import check_class_names
    from ..strategies.asking import check_can_ask

    check_file(state, SAVE_ELSEWHERE)
    check_free(str(state))
    model, tag = model_of(args)
    template = args.template or "a photo of a {}."
    query_strategy = get_strategy(args.strategy, name="--strategy")
    classifier = classifiers()[LEARNERS[args.learner or DEFAULT_LEARNER]]
    check_can_ask(classifier(), query_strategy, f"--strategy {args.strategy}", "the classifier of the page")
    check_model_name(model, tag)
    check_class_names(names, template, model)
    print(f"{len(paths):,} images, {len(names)} classes.  Loading {model} ...", flush=True)
    precision = args.precision or "auto"
    load_backbone(model, tag, args.device, precision)
    estimator = classifier(
        {name: name for name in names}, model_name=model, pretrained=tag, template=template,
        cache=args.cache, device=args.device, precision=precision, verbose=0,
    )  # fmt: skip
    return DualPromptLearner(
        estimator, paths, query_strategy=query_strategy, path=str(state), budget=args.budget,
        stopping=[StablePredictions()], calibration=args.calibration or "auto",
    )  # fmt: skip


def classifiers() -> dict[str, Any]:
    """Return the class behind each of the learners."""
    from .. import DualLinearClassifier, DualPromptClassifier

    return {LINEAR: DualLinearClassifier, PROMPTS: DualPromptClassifier}


def model_of(args: argparse.Namespace) -> tuple[str, str]:
    """Return name and tag of the CLIP."""
    model = args.model or "ViT-B-16"
    return model, args.pretrained or ("bundled" if model == "demo" else "openai")


def _resumed(args: argparse.Namespace, state: Path, folder: Path) -> tuple[Any, list[str]]:
    """The loop of a saved state, and files of it that hold another image by now."""
    from .. import DualPromptLearner, get_strategy
    from ..active import StablePredictions
    from ..label.work import CHANGED

    print(f"Going on with {state} ...", flush=True)
    check_file(state, SAVE_ELSEWHERE)
    query_strategy = get_strategy(args.strategy, name="--strategy")
    _check_resumed(args, state, query_strategy)
    relocate, changed = _moved_and_changed(state, folder, args.cache)
    for path in changed.values():
        print(f"warning: {path}: {CHANGED}", file=sys.stderr)
    loop = DualPromptLearner.resume(
        state, query_strategy=query_strategy, stopping=[StablePredictions()], relocate=relocate, drop=list(changed)
    )
    estimator = loop.estimator
    if args.template and args.template != estimator.template:
        estimator.set_params(template=args.template)
    estimator.set_params(cache=args.cache, device=args.device)
    if args.precision is not None:
        estimator.set_params(precision=args.precision)
    if args.budget is not None:
        loop.budget = args.budget
    if args.calibration is not None:
        loop.calibration = args.calibration
    names = estimator.class_names
    for name in names_in(args.classes or []):
        if name not in names.values():
            loop.add_class(name, label=name, train=False)
    return loop, list(changed.values())


def _moved_and_changed(state: Path, folder: Path, cache: str) -> tuple[Path | None, dict[int, str]]:
    """Where to look for the images if they are not where they were, and those that are other images, by row.

    Raises
    ------
    FileNotFoundError, ValueError
        If the folder holds none of the images, or all are others.
    """
    from ..active.saved import files_now

    now = files_now(state, folder, cache)
    if now is None:
        return None, {}
    if now.moved and not now.any_there():
        raise FileNotFoundError(
            f"FOLDER {str(folder)!r} holds none of the {len(now.paths):,} images of {state}, nor are they where they "
            f"were ({now.before[0]!r}, ...); expected the folder in which they lie now"
        )
    if now.all_changed:
        raise ValueError(
            f"all {len(now.changed):,} images of {state} are others by now, the first of them "
            f"{min(now.changed.values())!r}; expected those that were labeled, or another --state to begin anew"
        )
    return (folder if now.moved else None), now.changed


def _check_resumed(args: argparse.Namespace, state: Path, query_strategy: Any) -> None:
    """Refuse what does not fit a saved state, before a training that is due loads its CLIP."""
    from ..active.saving import estimator_of, read_learner
    from ..clip.templates import check_class_names
    from ..strategies.asking import check_can_ask

    estimator = estimator_of(read_learner(state)[0])
    if args.learner is not None and type(estimator) is not classifiers()[LEARNERS[args.learner]]:
        raise ValueError(
            f"{state} was begun with a {type(estimator).__name__} and goes on with it, --learner {args.learner} is "
            "another; leave --learner out, or begin anew with another --state"
        )
    check_can_ask(estimator, query_strategy, f"--strategy {args.strategy}")
    saved = estimator.model_name, estimator.pretrained
    asked = model_of(args) if args.model else (saved[0], args.pretrained or saved[1])
    if asked != saved:
        raise ValueError(
            f"{state} was begun with --model {saved[0]} --pretrained {saved[1]}, and its labels go on with that; "
            "leave these out, or begin anew with another --state"
        )
    names = list(estimator.class_names.values())
    new = [name for name in names_in(args.classes or []) if name not in names]
    if new or args.template:
        check_class_names([*names, *new], args.template or estimator.template, estimator.model_name)
