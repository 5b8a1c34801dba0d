# SPDX-License-Identifier: Apache-2.0
import pytest

from mixboost_jax import report
from mixboost_jax.report import __main__ as command_line
from mixboost_jax.runtime import results as results_lib


@pytest.fixture
def workdir(make, tmp_path):
  for name, error in (("erm", 20.0), ("mixboost", 10.0)):
    folder = tmp_path / "demo" / name
    (folder / "samples").mkdir(parents=True)
    (folder / "samples" / "clean.png").write_bytes(make.png(7))
    results = make.results(name, error, samples={"clean": "samples/clean.png"})
    results_lib.write(folder / "results.json", results)
  return tmp_path / "demo"


def test_write_a_file_or_into_a_folder(make, tmp_path):
  assert report.write(make.results(), tmp_path / "new" / "page.html").name == "page.html"
  assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["page.html", "page.md"]
  assert report.write([make.results()], tmp_path) == tmp_path / "report.html"
  assert (tmp_path / "report.md").read_text().startswith("# demo ERM")


def test_pictures_are_found_in_the_folder_of_each_run(workdir):
  page = report.write([workdir / "erm", workdir / "mixboost"], workdir)
  assert page.read_text().count("data:image/png") == 1
  assert "cannot be read" not in page.read_text()


def test_a_failed_report_leaves_the_old_one(workdir):
  page = report.write(workdir, workdir)
  before = page.read_bytes()
  (workdir / "erm" / "results.json").write_text("{")
  with pytest.raises(ValueError, match="not a JSON file"):
    report.write(workdir, workdir)
  assert page.read_bytes() == before


def test_command_line(workdir, capsys):
  assert command_line.main([str(workdir)]) == 0
  assert (workdir / "report.html").exists()
  out = workdir.parent / "elsewhere.html"
  runs = [str(workdir / "mixboost"), str(workdir / "erm")]
  assert command_line.main([*runs, f"--out={out}"]) == 0
  assert out.exists()
  assert "elsewhere.html" in capsys.readouterr().out
  (workdir / "report.html").unlink()
  assert command_line.main(runs) == 0  # several folders: in the one around them
  assert (workdir / "report.html").exists()


def test_command_line_updates_a_readme(workdir, capsys):
  path = workdir.parent / "README.md"
  path.write_text("<!-- results:demo -->\n<!-- /results -->\n")
  arguments = [f"--update-readme={path}", str(workdir / "erm" / "results.json")]
  assert command_line.main(arguments) == 0
  assert "| ERM |" in path.read_text()
  before = path.stat().st_mtime_ns
  assert command_line.main(arguments) == 0
  assert path.stat().st_mtime_ns == before
  assert capsys.readouterr().out.splitlines()[-1].endswith("already up to date")


@pytest.mark.parametrize("arguments", [[], ["absent"], ["absent", "--out=x.html"]])
def test_command_line_errors_are_one_line(arguments, capsys, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  assert command_line.main(arguments) == command_line.EXIT_USER_ERROR
  printed = capsys.readouterr()
  assert printed.err.startswith("error: ")
  assert len(printed.err.splitlines()) == 1
  assert list(tmp_path.iterdir()) == []


def test_command_line_refuses_a_readme_without_a_place(tmp_path, capsys):
  path = tmp_path / "README.md"
  path.write_text("text")
  assert command_line.main([f"--update-readme={path}"]) == command_line.EXIT_USER_ERROR
  assert "no place for results" in capsys.readouterr().err
  assert path.read_text() == "text"
