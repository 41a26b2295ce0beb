"""Arguments and errors that all commands share."""

import argparse

import pytest
from PIL import Image
from sklearn.utils import Bunch

from modal_clip_dual import cli
from modal_clip_dual.cli import build_parser, main
from modal_clip_dual.cli.parsing import reword


@pytest.fixture
def folder(tmp_path, digits):
    for k in range(60):
        path = tmp_path / "mine" / digits.class_names[digits.target[k]] / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(digits.images[k]).save(path)
    return tmp_path / "mine"


def benchmark(folder, *more):
    return ["benchmark", "--data", "folder", "--root", str(folder), "--model", "demo", "--strategies", "random",
            "--rounds", "1", "--seeds", "1", "--epochs", "1", "--out", str(folder.parent / "out"), *more]  # fmt: skip


def test_broken_images_are_one_line_of_error(folder, capsys):
    broken = sorted(folder.glob("*/*.png"))[:3]
    for path in broken:
        path.write_bytes(b"broken")
    assert main(benchmark(folder)) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert "Traceback" not in said
    assert any(path.name in said for path in broken)
    with pytest.raises(ValueError, match=r"cannot (be )?read"):
        main(["--traceback", *benchmark(folder)])


FAILURES = [OSError("no network"), ImportError("pip install x"), RuntimeError("a worker died"), MemoryError()]


@pytest.mark.parametrize("error", FAILURES)
def test_what_a_user_can_cause_has_no_traceback(monkeypatch, capsys, error):
    def run(args):
        raise error

    monkeypatch.setattr(cli, "build_parser", lambda: parser_of(run))
    assert main([]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def parser_of(run):
    parser = argparse.ArgumentParser()
    parser.set_defaults(run=run, traceback=False)
    return parser


def test_errors_of_the_code_keep_their_traceback(monkeypatch):
    monkeypatch.setattr(cli, "build_parser", lambda: parser_of(lambda args: {}["missing"]))
    with pytest.raises(KeyError):
        main([])


@pytest.mark.parametrize("command", [["demo"], ["benchmark", "--data", "digits"]])
@pytest.mark.parametrize("written", [["entropy,random"], ["entropy", "random"], ["entropy,", "random"]])
def test_lists_are_written_one_way_in_all_commands(command, written):
    args = build_parser().parse_args([*command, "--strategies", *written])
    assert args.strategies == ["entropy", "random"]


def test_unknown_names_in_lists(capsys):
    for command in (["demo"], ["benchmark", "--data", "digits"]):
        with pytest.raises(SystemExit) as caught:
            main([*command, "--strategies", "random,entrophy"])
        assert caught.value.code == 2
        assert "argument --strategies: 'entrophy' is none of" in capsys.readouterr().err


def test_templates_and_class_names_of_the_command_line(folder, capsys):
    more = ["--template", "the number {}.", "--template", "a {}", "--class-names", "a,b,c,d,e,f,g,h,i,j", "--dry-run"]
    assert main(benchmark(folder, *more)) == 0
    args = build_parser().parse_args(benchmark(folder, *more))
    data = Bunch(class_names=[str(k) for k in range(10)], template="x {}")
    reword(data, args)
    assert data.template == ["the number {}.", "a {}"]
    assert data.class_names == list("abcdefghij")
    assert main(benchmark(folder, "--class-names", "a,b")) == 2
    assert "--class-names has 2 names; expected one for each of the 10 classes" in capsys.readouterr().err
    assert main(benchmark(folder, "--template", "a digit")) == 2
    assert "template='a digit'; expected a string with one {}" in capsys.readouterr().err


def test_class_names_in_a_file(tmp_path, folder):
    names = tmp_path / "names.txt"
    names.write_text("one, two\n\nthree\n", encoding="utf-8")
    data = Bunch(class_names=["1", "2"], template="x {}")
    reword(data, build_parser().parse_args(benchmark(folder, "--class-names", str(names))))
    assert data.class_names == ["one, two", "three"]
    assert data.template == "x {}"
